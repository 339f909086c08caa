import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs'
import { freemem, totalmem } from 'node:os'
import { basename, join } from 'node:path'
import { type Rank, randomNormal, type Tensor2D } from '@tensorflow/tfjs-core'
import type { MachineRate } from '#contract/machine/engine-state.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { PhaseWork } from '#contract/runs/time/estimate.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { workOf } from '#engine/estimate/count-work.ts'
import { measureRates } from '#engine/estimate/machine-rates.ts'
import { openSpec } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { project } from '#engine/tensor/products.ts'
import { Experience, estimateRun, sumSeconds } from '#services/experiments/estimate-seconds.ts'
import { cacheFolder } from '../../../src-main/runtime/places.mjs'
import { makeModel, makeWindows, modelFolder, type Shape, smolShape } from '../../fixtures/bench-model.ts'
import type { ScaleCase, ScaleResult } from './scale-case.ts'
import { spentSince, spentSoFar } from './spent.ts'

/**
 * How time and memory grow with a model: `npm run bench -- --scale`. 2SSP at 37.5 %, repair in order and a perplexity on the same few
 * windows, in float32, of seeded models in bfloat16: in a memory budget that holds the weights in float32, and in one of half of that.
 */

/** By billions of parameters. */
const shapes: Readonly<Record<string, Shape>> = {
  '0.1': { ...smolShape, dtype: 'BF16' },
  '1': { blocks: 16, hidden: 2048, intermediate: 8192, heads: 32, keyValueHeads: 8, vocabulary: 49152, dtype: 'BF16' },
  '7': { blocks: 32, hidden: 4096, intermediate: 11008, heads: 32, keyValueHeads: 32, vocabulary: 32000, dtype: 'BF16' },
}
export const scaleSizes = Object.keys(shapes)
const sparsity = 0.375
/** Disk and memory that stay free. */
const spare = 2e9
const parts = ['pruning', 'repair', 'perplexity'] as const
const titles = { pruning: `2SSP at ${100 * sparsity} %`, repair: 'repair in order', perplexity: 'perplexity' }

const columns = [
  ...['model', 'budget', 'weights', 'work', 'estimated [s]', 'took [s]', 'ratio', 'processor [s]'],
  ...['peak so far', 'read', 'of it from the disk', 'of the peak'],
]

interface Planned extends ScaleCase {
  readonly size: string
  readonly budget: string
  readonly phases: readonly PhaseWork[]
  readonly estimate: Readonly<Record<(typeof parts)[number], number>>
}

export interface ScaleOptions {
  readonly sizes: readonly string[]
  readonly windows: number
  readonly tokens: number
}

export async function measureScale({ sizes, windows, tokens }: ScaleOptions): Promise<void> {
  const home = join(cacheFolder(), 'bench')
  mkdirSync(join(home, 'scale'), { recursive: true })
  const { title } = await openBackend()
  const [rates, peak] = [await measureRates(), barePeak()]
  console.log(`${title}: ${peak.toFixed(0)} GFLOP/s of a core in a bare product; ${windows} windows of ${tokens} tokens, float32`)
  const cases: Planned[] = []
  for (const size of sizes) cases.push(...(await plan(home, size, { windows, tokens }, rates)))
  for (const one of cases)
    console.log(`Estimated for ${nameOf(one)}: ${parts.map((part) => `${titles[part]} ${shown(one.estimate[part])} s`).join(', ')}`)
  console.log(`| ${columns.join(' | ')} |`)
  console.log(`|${' --- |'.repeat(columns.length)}`)
  const hashes = new Map<string, string>()
  for (const one of cases) {
    const result = resultOf(one)
    if (result) for (const line of linesOf(one, result, peak)) console.log(line)
    if (result?.hash === undefined) {
      console.log(`${nameOf(one)}: not finished. After a kill, start the command again to resume it.`)
      continue
    }
    console.log(`${nameOf(one)}: ${result.problem ? `not repaired. ${result.problem}` : `repair improved ${result.replaced} projections.`}`)
    const other = hashes.get(one.size)
    if (other !== undefined && !result.problem)
      console.log(
        `${one.size} billion: ${other === result.hash ? 'plans and repairs are equal' : 'PLANS OR REPAIRS DIFFER'} in both budgets.`,
      )
    hashes.set(one.size, result.hash)
  }
}

const nameOf = ({ size, budget, memoryBytes }: Planned) => `${size} billion, budget ${gigabytes(memoryBytes)} (${budget})`
const gigabytes = (bytes: number) => (Number.isNaN(bytes) ? 'unknown' : `${(bytes / 1e9).toFixed(2)} GB`)
const shown = (seconds: number) => seconds.toFixed(seconds < 10 ? 1 : 0)

/** Makes the model if it is not there, and estimates its two cases as a run's preview does. */
async function plan(
  home: string,
  size: string,
  { windows, tokens }: Omit<ScaleOptions, 'sizes'>,
  rates: MachineRate[],
): Promise<Planned[]> {
  const shape = shapes[size]
  if (!shape) throw new Error(`There is no model of ${size} billion parameters. Choose from ${scaleSizes.join(', ')}.`)
  const { bavail, bsize } = statfsSync(home)
  if (!existsSync(modelFolder(home, shape)) && bavail * bsize < Number(size) * 2.2e9 + spare) {
    console.log(
      `${size} billion: not run, because ${gigabytes(bavail * bsize)} of disk are free. It needs ${gigabytes(Number(size) * 2.2e9 + spare)}.`,
    )
    return []
  }
  const path = await makeModel(home, shape)
  const { spec, checkpoint } = await openSpec(path)
  await checkpoint.close()
  const windowsFile = join(home, 'scale', `windows-${windows}-${tokens}-${shape.vocabulary}.json`)
  writeFileSync(windowsFile, JSON.stringify(makeWindows(windows, tokens, shape.vocabulary)))
  const data = { source: windowsFile, sequenceLength: tokens, windows }
  const request: RunRequest = {
    ...{ model: path, method: '2ssp', amount: { sparsity }, options: { windows }, seed: 0, precision: 'float32', backend: 'auto' },
    ...{ calibration: data, repair: { kind: 'in-order', calibration: data }, measures: [{ kind: 'perplexity', name: 'test', data }] },
  }
  const work = await workOf({ path, spec, checkpoint, tokenizer: undefined }, request)
  const estimated = estimateRun('2ssp', work, rates, new Experience([], rates)).phases
  const secondsOf = (part: string) => sumSeconds(estimated.filter((phase) => phase.part === part))
  const own = { pruning: secondsOf('pruning'), repair: secondsOf('repair'), perplexity: secondsOf('perplexity') }
  const bytes = 4 * stackParameters(spec) + Vocabulary.bytes(spec)
  return Object.entries({ 'holds all': holding(bytes), half: Math.floor(bytes / 2) }).flatMap(([budget, memoryBytes]) => {
    const folder = join(home, 'scale', `${basename(path)}-${windows}-${tokens}-${memoryBytes}`)
    const resultFile = join(folder, 'result.json')
    const estimate = keepFirst(folder, own)
    const one = { size, budget, memoryBytes, path, folder, resultFile, windowsFile, sparsity, phases: work.phases, estimate }
    if (memoryBytes + spare <= freemem() || existsSync(resultFile)) return [one]
    console.log(`${nameOf(one)}: not run, because ${gigabytes(freemem())} of memory are free.`)
    return []
  })
}

/** The first estimate of a case: its later parts may run after a kill, when the machine has other rates. */
function keepFirst(folder: string, estimate: Planned['estimate']): Planned['estimate'] {
  const file = join(folder, 'estimate.json')
  mkdirSync(folder, { recursive: true })
  if (!existsSync(file)) writeFileSync(file, JSON.stringify(estimate))
  return JSON.parse(readFileSync(file, 'utf8')) as Planned['estimate']
}

/** Room for all weights in float32, or as stored on a machine too small for that, and for activations. */
const holding = (bytes: number) => Math.floor(1.5 * bytes < 0.8 * totalmem() ? 1.5 * bytes : 0.75 * bytes)

/** Runs the case unless it is done. Steps of a killed case are found again. */
function resultOf({ path, memoryBytes, folder, resultFile, windowsFile }: Planned): ScaleResult | undefined {
  const read = () => (existsSync(resultFile) ? (JSON.parse(readFileSync(resultFile, 'utf8')) as ScaleResult) : undefined)
  const found = read()
  if (found?.hash !== undefined) return found
  const given = JSON.stringify({ path, memoryBytes, folder, resultFile, windowsFile, sparsity } satisfies ScaleCase)
  spawnSync(process.execPath, [...process.execArgv, join(import.meta.dirname, 'scale-case.ts'), given], { stdio: 'inherit' })
  return read()
}

function linesOf({ size, memoryBytes, phases, estimate }: Planned, { residency, spent }: ScaleResult, peak: number): string[] {
  return parts.flatMap((part) => {
    const own = spent[part]
    if (!own) return []
    const { seconds, processorSeconds, peakBytes, bytesRead, bytesFromDisk } = own
    const operations = phases
      .filter((phase) => phase.part === part)
      .reduce((sum, { attention, mlp, head }) => sum + attention + mlp + head, 0)
    // Repairs mostly solve equations in float64, which has another peak.
    const share = part === 'repair' ? '' : `${((100 * operations) / processorSeconds / peak).toFixed(0)} %`
    const times = [shown(estimate[part]), shown(seconds), (seconds / estimate[part]).toFixed(2), shown(processorSeconds)]
    const bytes = [peakBytes, bytesRead, bytesFromDisk].map(gigabytes)
    return [`| ${[`${size} billion`, gigabytes(memoryBytes), residency, titles[part], ...times, ...bytes, share].join(' | ')} |`]
  })
}

/** GFLOP/s of a core in a bare product, the best of ten by processor time, which other programs disturb less. */
function barePeak(side = 2048): number {
  const [x, weight] = [0, 1].map(() => randomNormal<Rank.R2>([side, side])) as [Tensor2D, Tensor2D]
  const rates = Array.from({ length: 10 }, () => {
    const start = spentSoFar()
    project(x, weight).dispose()
    return (2 * side ** 3) / spentSince(start).processorSeconds / 1e9
  })
  x.dispose()
  weight.dispose()
  return Math.max(...rates)
}
