/**
 * A whole model by 2SSP at half its size in llama.cpp: perplexity of every GGUF type against ours and against what llama.cpp's own
 * quantiser makes of the same F16 file, and the time of an answer against the dense model's.
 *   node test/interop/real-model.ts FOLDER [RUN.json]     RUN.json is a run document (--json) whose plan is taken
 */
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { argv } from 'node:process'
import type { Plan } from '#contract/plan.ts'
import type { GgufType } from '#contract/titles.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { mixes } from '#engine/export/gguf/mix.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, openView } from '#engine/model/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { executeRun } from '#engine/run.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { askPython, findTools } from './environment.ts'

const [, , path = '', document] = argv
const texts = join(import.meta.dirname, '..', '..', 'resources', 'sample-model')
const windowLength = 256
const windowCount = 8
const rounds = 3

interface Answer {
  readonly perplexity: number
  readonly tokens_per_second: number
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
const percent = (share: number): string => (Math.abs(share) < 1e-4 ? share.toExponential(1) : `${(100 * share).toFixed(3)} %`)

const tools = await findTools()
const folder = await mkdtemp(join(tmpdir(), 'espalier-real-'))
try {
  await openBackend('auto')
  const plan = document ? (JSON.parse(await readFile(document, 'utf8')) as { plan: Plan }).plan : await prune()
  const model = await openModel(path)
  const ids = (await openTokenizer(path)).encode(await readFile(join(texts, 'test.txt'), 'utf8'))
  const windows = Array.from({ length: windowCount }, (_, i) => Int32Array.from(ids.slice(i * windowLength, (i + 1) * windowLength)))
  const view = await openView(model, plan)
  const ours = (await perplexity(view, windows)).perplexity
  view.dispose()
  console.log(`${windowCount} windows of ${windowLength} tokens; perplexity here ${ours}`)
  const types = ['F32', 'F16', 'BF16', 'Q8_0', 'Q4_K_M', 'Q4_0'] as const
  const pruned = join(folder, 'pruned')
  await gguf.write({ model, plan, method: '2ssp', folder: pruned, ggufTypes: types })
  const dense = join(folder, 'dense')
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder: dense, ggufTypes: ['F32'] })
  await model.close()
  const fileOf = async (place: string, type: string) =>
    join(place, (await readdir(place)).find((name) => name.endsWith(`-${type}.gguf`)) ?? '')
  const measure = (file: string) => llama<Answer>({ file, windows: windows.map((window) => [...window]) })
  for (const type of types) {
    const file = await fileOf(pruned, type)
    const theirs = await measure(file)
    const line = [type.padEnd(7), megabytes((await stat(file)).size), `llama.cpp ${percent(theirs.perplexity / ours - 1)} from ours`]
    if (type !== 'F32' && type !== 'F16' && type !== 'BF16')
      line.push(await quantised(type, theirs.perplexity, await fileOf(pruned, 'F16')))
    if (type === 'F16' || type === 'F32') line.push(await reopened(file, windows))
    console.log(line.join('  '))
  }
  await compareSpeed(await fileOf(dense, 'F32'), await fileOf(pruned, 'F32'), [...(windows[0] as Int32Array).subarray(0, 16)])

  async function quantised(type: GgufType, own: number, source: string): Promise<string> {
    const target = join(folder, `quantised-${type}.gguf`)
    const { bytes } = await llama<{ bytes: number }>({ file: source, quantize: target, ftype: mixes[type].fileType })
    const theirs = await measure(target)
    return `by llama.cpp's quantiser ${megabytes(bytes)}; ours is ${percent(own / theirs.perplexity - 1)} from it`
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}

function llama<Result>(job: unknown): Promise<Result> {
  return askPython<Result>(tools, 'llama_cpp.py', [tools.libraries], job, folder)
}

async function reopened(file: string, windows: Int32Array[]): Promise<string> {
  const model = await openModel(file)
  const again = (await perplexity(denseView(model), windows)).perplexity
  await model.close()
  return `reopened here ${again}`
}

/** Dense and pruned in turns, one thread. */
async function compareSpeed(dense: string, pruned: string, prompt: number[]): Promise<void> {
  const ratios: number[] = []
  for (let round = 0; round < rounds; round++) {
    const [before, after] = [
      await llama<Answer>({ file: dense, prompt, tokens: 48 }),
      await llama<Answer>({ file: pruned, prompt, tokens: 48 }),
    ]
    ratios.push(after.tokens_per_second / before.tokens_per_second)
    console.log(
      `decoding F32, one thread: dense ${before.tokens_per_second.toFixed(1)}, pruned ${after.tokens_per_second.toFixed(1)} tokens/s`,
    )
  }
  console.log(`pruned decodes ${ratios.map((ratio) => ratio.toFixed(2)).join(', ')} times as fast`)
}

async function prune(): Promise<Plan> {
  const data = { source: join(texts, 'calibration.txt'), sequenceLength: windowLength, windows: 4 }
  const steps = { get: async () => undefined, put: async () => undefined, folder }
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
  return (await executeRun(request, { steps, emit: () => undefined, signal: new AbortController().signal })).plan
}
