/**
 * A whole model by 2SSP at half its size in llama.cpp: perplexity of every GGUF type against ours and against what llama.cpp's own
 * quantiser makes of the same F16 file, and the time of an answer against the dense model's.
 *   npm run interop -- real-model FOLDER [RUN.json] [--text FILE] [--windows N] [--length T] [--types LIST] [--rounds N]
 * RUN.json is a run document (--json) whose plan is taken; FILE is what perplexity is measured on; 0 rounds leave out the times, and
 * --types '' all else. --here measures quantised files in this program, several times as fast: what the rounding of weights alone does.
 */
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Plan } from '#contract/pruning/plan.ts'
import type { GgufType } from '#contract/titles.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { findMix, mixes } from '#engine/export/gguf/mix.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, openView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { hostIn } from '../fixtures/run-host.ts'
import { Llama } from './llama.ts'

const texts = join(import.meta.dirname, '..', '..', 'resources', 'sample-model')
const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    text: { type: 'string', default: join(texts, 'test.txt') },
    windows: { type: 'string', default: '20' },
    length: { type: 'string', default: '512' },
    types: { type: 'string', default: 'F32,F16,BF16,Q8_0,Q4_K_M,Q4_0' },
    rounds: { type: 'string', default: '3' },
    here: { type: 'boolean', default: false },
  },
})
const [path = '', document] = positionals
const [windowCount, windowLength, rounds] = [Number(flags.windows), Number(flags.length), Number(flags.rounds)]
const types = flags.types.split(',').filter(Boolean).map(ggufType)

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
const percent = (share: number): string => (Math.abs(share) < 1e-4 ? share.toExponential(1) : `${(100 * share).toFixed(3)} %`)

const llama = new Llama()
const folder = await mkdtemp(join(tmpdir(), 'espalier-real-'))
try {
  await openBackend('auto')
  const plan = document ? (JSON.parse(await readFile(document, 'utf8')) as { plan: Plan }).plan : await prune()
  const model = await openModel(path)
  const pruned = join(folder, 'pruned')
  const wanted = [...new Set<GgufType>([...types, 'F16', 'F32'])]
  await gguf.write({ model, plan, method: '2ssp', folder: pruned, ggufTypes: wanted })
  if (types.length > 0) await compareAnswers(model, plan, pruned)
  if (rounds > 0) await compareSpeed(model, pruned)
  await model.close()
} finally {
  llama.end()
  await rm(folder, { recursive: true, force: true })
}

/** Perplexity of each type in llama.cpp, against ours for the saved model and for the same file. */
async function compareAnswers(model: Model, plan: Plan, pruned: string): Promise<void> {
  const ids = (await openTokenizer(path)).encode(await readFile(flags.text, 'utf8'))
  const windows = Array.from({ length: windowCount }, (_, i) => Int32Array.from(ids.slice(i * windowLength, (i + 1) * windowLength)))
  const view = await openView(model, plan)
  const ours = (await perplexity(view, windows)).perplexity
  view.dispose()
  console.log(`${windowCount} windows of ${windowLength} tokens; perplexity here ${ours}`)
  const inLlama = async (file: string) => (await llama.ask({ file, windows })).perplexity
  const measure = flags.here ? (file: string) => reopened(file, windows) : inLlama
  const place = flags.here ? 'here' : 'in llama.cpp'
  for (const type of types) {
    const file = await fileOf(pruned, type)
    const theirs = await measure(file)
    console.log(
      `${type.padEnd(7)} ${megabytes((await stat(file)).size)}  ${place} ${percent(theirs / ours - 1)} from the pruned model here`,
    )
    if (!mixes[type].main.startsWith('Q'))
      console.log(`        the same file opened here ${percent((await reopened(file, windows)) / ours - 1)} from it`)
    else await compareQuantisers(type, pruned, { measure, ours, theirs })
  }
}

interface Measured {
  readonly measure: (file: string) => Promise<number>
  readonly ours: number
  readonly theirs: number
}

/** The same type, made from the F16 file by llama.cpp's own quantiser. */
async function compareQuantisers(type: GgufType, pruned: string, { measure, ours, theirs }: Measured): Promise<void> {
  const target = join(folder, `quantised-${type}.gguf`)
  await llama.quantize(await fileOf(pruned, 'F16'), target, mixes[type].fileType)
  const bytes = (await stat(target)).size
  const other = await measure(target)
  await rm(target)
  console.log(
    `        by llama.cpp's quantiser ${megabytes(bytes)}, ${percent(other / ours - 1)} from it; ours is ${percent(theirs / other - 1)} from that`,
  )
}

async function fileOf(place: string, type: GgufType): Promise<string> {
  return join(place, (await readdir(place)).find((name) => name.endsWith(`-${type}.gguf`)) ?? '')
}

function ggufType(name: string): GgufType {
  findMix(name)
  return name as GgufType
}

async function reopened(file: string, windows: Int32Array[]): Promise<number> {
  const model = await openModel(file)
  try {
    return (await perplexity(denseView(model), windows)).perplexity
  } finally {
    await model.close()
  }
}

/** Dense and pruned in turns, with one thread. */
async function compareSpeed(model: Model, pruned: string): Promise<void> {
  const whole = join(folder, 'dense')
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder: whole, ggufTypes: ['F32'] })
  const [dense, smaller] = [await fileOf(whole, 'F32'), await fileOf(pruned, 'F32')]
  const prompt = (await openTokenizer(path)).encode(await readFile(flags.text, 'utf8')).slice(0, 16)
  const ratios: number[] = []
  for (let round = 0; round < rounds; round++) {
    const before = await llama.ask({ file: dense, prompt, tokens: 49 })
    const after = await llama.ask({ file: smaller, prompt, tokens: 49 })
    ratios.push(after.tokensPerSecond / before.tokensPerSecond)
    console.log(`decoding F32, one thread: dense ${before.tokensPerSecond.toFixed(1)}, pruned ${after.tokensPerSecond.toFixed(1)} tokens/s`)
  }
  console.log(`pruned decodes ${ratios.map((ratio) => ratio.toFixed(2)).join(', ')} times as fast`)
}

async function prune(): Promise<Plan> {
  const data = { source: join(texts, 'calibration.txt'), sequenceLength: windowLength, windows: 32 }
  const request = {
    model: path,
    method: '2ssp',
    amount: { sparsity: 0.5 },
    options: {},
    seed: 0,
    calibration: data,
    measures: [],
    backend: 'auto' as const,
  }
  return (await executeRun(request, hostIn(folder))).plan
}
