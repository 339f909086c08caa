/**
 * Estimated against real seconds of every method: `npm run bench -- estimate [sample|small|bench]`. First by the machine's rates alone, then
 * with the dense model's run, as an experiment has it. `small` is the bench model with 6 blocks and windows of 512 tokens.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MachineRate } from '#contract/machine/engine-state.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { methodTitles } from '#contract/titles.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { workOf } from '#engine/estimate/count-work.ts'
import { measureRates } from '#engine/estimate/machine-rates.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { openSpec } from '#engine/model/model.ts'
import type { StepResult } from '#engine/steps/step-name.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { Experience, estimateRun, type FinishedRun, sumSeconds } from '#services/experiments/estimate-seconds.ts'
import { cacheFolder } from '../../src-main/runtime/places.mjs'
import { makeModel, makeWindows, smolShape } from '../fixtures/bench-model.ts'

const sample = join(import.meta.dirname, '..', '..', 'resources', 'sample-model')

interface Subject {
  readonly path: string
  readonly calibration: RunRequest['calibration']
  readonly evaluation: NonNullable<RunRequest['calibration']>
  /** Options and removed blocks that reduce a method's work to fit the time. */
  readonly cut: Partial<Record<string, Record<string, unknown>>>
  readonly blocks: Partial<Record<string, number>>
  readonly repair: boolean
}

async function subjectOf(name: string, folder: string): Promise<Subject> {
  if (name === 'sample') {
    const data = (file: string, windows: number) => ({ source: join(sample, file), sequenceLength: 256, windows })
    return { path: sample, calibration: data('calibration.txt', 256), evaluation: data('test.txt', 64), cut: {}, blocks: {}, repair: true }
  }
  const shape = name === 'small' ? { ...smolShape, blocks: 6 } : smolShape
  const tokens = name === 'small' ? 512 : 2048
  const path = await makeModel(join(cacheFolder(), 'bench'), shape)
  const file = join(folder, 'windows.json')
  await writeFile(file, JSON.stringify(makeWindows(24, tokens, shape.vocabulary)))
  const data = (windows: number) => ({ source: file, sequenceLength: tokens, windows })
  const evolution = { generations: 2, offspring: 6, startStates: 4, finalWindows: 2 }
  return {
    path,
    calibration: data(8),
    evaluation: data(4),
    cut: { '2ssp': { attention: 2, windows: 4 }, evopress: evolution, evopress_submodule: evolution, slicegpt: { windows: 2 } },
    blocks: name === 'small' ? {} : { blockpruner: 2, blockpruner_submodule: 1 },
    repair: name === 'small',
  }
}

async function run(request: RunRequest, folder: string): Promise<RunDocument> {
  const kept = new Map<string, StepResult>()
  const steps = {
    get: async (name: string) => kept.get(name),
    put: async (name: string, value: unknown, tensors?: StepResult['tensors']) => {
      kept.set(name, { value, ...(tensors ? { tensors } : {}) })
    },
    folder,
  }
  return executeRun(request, { steps, emit: () => undefined, signal: new AbortController().signal })
}

interface Line {
  title: string
  estimated: number
  after: number
  real: number
}

async function measure(subject: Subject, rates: MachineRate[], folder: string): Promise<Line[]> {
  const { spec, checkpoint } = await openSpec(subject.path)
  await checkpoint.close()
  const model = { path: subject.path, spec, checkpoint, tokenizer: await openModelTokenizer({ path: subject.path, spec }) }
  const base = {
    model: subject.path,
    seed: 0,
    backend: 'auto' as const,
    measures: [{ kind: 'perplexity' as const, name: 'test', data: subject.evaluation }],
  }
  const lines: Line[] = []
  const finished: FinishedRun[] = []
  const measured = async (title: string, request: RunRequest, parts: readonly string[]) => {
    const work = await workOf(model, request)
    const estimate = (runs: readonly FinishedRun[]) => {
      const { phases } = estimateRun(request.method, work, rates, new Experience(runs, rates))
      return sumSeconds(phases.filter(({ part }) => parts.includes(part)))
    }
    const [estimated, after] = [estimate([]), estimate(finished)]
    const { seconds } = await run(request, folder)
    if (finished.length === 0) finished.push({ method: request.method, work, seconds })
    const line = { title, estimated, after, real: parts.reduce((sum, part) => sum + (seconds[part] ?? 0), 0) }
    lines.push(line)
    console.log(show(line))
  }
  await measured('Dense, perplexity', { ...base, method: 'dense', amount: { sparsity: 0 }, options: {} }, ['perplexity'])
  const requestOf = (method: string): RunRequest => ({
    ...base,
    method,
    amount: subject.blocks[method] ? { blocks: subject.blocks[method] } : { sparsity: 0.5 },
    options: subject.cut[method] ?? {},
    ...(subject.calibration ? { calibration: subject.calibration } : {}),
  })
  for (const [method, title] of Object.entries(methodTitles).filter(([method]) => !['dense', 'reap'].includes(method)))
    await measured(title, requestOf(method), ['pruning'])
  if (subject.repair && subject.calibration)
    for (const kind of ['one-pass', 'in-order'] as const)
      await measured(`Repair, ${kind}`, { ...requestOf('2ssp'), repair: { kind, calibration: { ...subject.calibration, windows: 32 } } }, [
        'repair',
      ])
  return lines
}

const factor = (estimated: number, real: number) => Math.max(estimated / real, real / estimated)
const show = ({ title, estimated, after, real }: Line) =>
  [
    title.padEnd(26),
    ...[estimated, after, real].map((seconds) => `${seconds.toFixed(2)} s`.padStart(10)),
    factor(estimated, real).toFixed(2).padStart(8),
    factor(after, real).toFixed(2).padStart(8),
  ].join('')

await openBackend('auto')
const folder = await mkdtemp(join(tmpdir(), 'espalier-estimate-'))
await mkdir(folder, { recursive: true })
try {
  const rates = await measureRates()
  for (const rate of rates)
    console.log(
      `at width ${rate.hidden}:`,
      Object.entries(rate)
        .slice(1)
        .map(([key, value]) => `${key} ${key === 'call' ? `${(1000 * value).toFixed(2)} ms` : value.toFixed(1)}`)
        .join(', '),
    )
  for (const name of process.argv[2] ? [process.argv[2]] : ['sample', 'bench']) {
    console.log(`\n${name}`.padEnd(27), '  by rates  after dense      real  factor  after')
    const lines = await measure(await subjectOf(name, folder), rates, folder)
    const worst = Math.max(...lines.slice(1).map(({ after, real }) => factor(after, real)))
    console.log(`largest factor after the dense run: ${worst.toFixed(2)}${worst <= 1.5 ? '' : ', more than 1.5'}`)
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
