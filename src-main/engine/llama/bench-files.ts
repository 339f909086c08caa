import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { type BenchedFile, type Figure, type FileBench, writtenTokens } from '#contract/exports/file-bench.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { ggmlRelease } from '#runtime/ggml.mjs'
import type { Turn } from './llama-jobs.ts'
import { LlamaProcess } from './llama-process.ts'

export interface BenchSettings {
  /** Lengths of the prompts in tokens, in rising order. Prompts that do not fit the context of every file are left out. */
  readonly prompts: readonly number[]
  readonly rounds: number
  readonly threads: number
  /** A device's name in ggml. `CPU` is the processor. */
  readonly device: string
  /** Windows of the texts that perplexity is measured on. */
  readonly texts: readonly { readonly name: string; readonly windows: readonly Int32Array[] }[]
}

interface BenchReport {
  readonly signal?: AbortSignal
  progress?(done: number, total: number): void
}

interface Opened {
  readonly path: string
  readonly llama: LlamaProcess
  readonly turns: Turn[]
  readonly perplexities: BenchedFile['perplexities']
}

/** Measures GGUF files in llama.cpp, each in its own process. The files take turns, and every other round runs in reverse order. */
export async function benchFiles(paths: readonly string[], settings: BenchSettings, report: BenchReport = {}): Promise<FileBench> {
  const opened = paths.map((path): Opened => ({ path, llama: new LlamaProcess(report.signal), turns: [], perplexities: [] }))
  try {
    const { prompts, context } = await openAll(opened, settings)
    const total = opened.length * settings.rounds + opened.length * settings.texts.reduce((sum, { windows }) => sum + windows.length, 0)
    let done = 0
    const advance = () => report.progress?.(++done, total)
    for (let round = 0; round < settings.rounds; round++) {
      for (const { llama, turns } of round % 2 === 0 ? opened : opened.toReversed()) {
        turns.push(await llama.ask('time', prompts, writtenTokens))
        advance()
      }
    }
    for (const one of opened) for (const text of settings.texts) one.perplexities.push(await perplexityOf(one.llama, text, advance))
    const files = await Promise.all(opened.map((one) => describe(one, prompts)))
    return { release: ggmlRelease, device: settings.device, threads: settings.threads, rounds: settings.rounds, context, files }
  } finally {
    for (const { llama } of opened) llama.end()
  }
}

/** Opens every file with a context for the longest prompt that fits the context of all files. */
async function openAll(opened: readonly Opened[], { prompts, threads, device, texts }: BenchSettings) {
  const longestWindow = Math.max(0, ...texts.flatMap(({ windows }) => windows.map(({ length }) => length)))
  const trained: number[] = []
  for (const { path, llama } of opened) trained.push(await llama.ask('open', path, { context: 256, threads, device }))
  const most = Math.min(...trained)
  const held = prompts.filter((tokens) => tokens <= most)
  const [shortest] = held
  if (shortest === undefined)
    throw new EspalierError(
      'invalid',
      `The files have a context of at most ${most} tokens, but the shortest prompt has ${prompts[0]}. Choose a shorter prompt.`,
    )
  const context = Math.max(held.at(-1) ?? 0, shortest + writtenTokens + 1, longestWindow)
  for (const { path, llama } of opened) await llama.ask('open', path, { context, threads, device })
  return { prompts: held, context }
}

async function perplexityOf(llama: LlamaProcess, { name, windows }: BenchSettings['texts'][number], advance: () => void) {
  let [loss, tokens] = [0, 0]
  for (const window of windows) {
    loss += await llama.ask('loss', window)
    tokens += window.length - 1
    advance()
  }
  return { name, value: Math.exp(loss / tokens), tokens }
}

async function describe({ path, turns, perplexities }: Opened, prompts: readonly number[]): Promise<BenchedFile> {
  const [first] = prompts as [number]
  return {
    name: basename(path),
    bytes: (await stat(path)).size,
    prefill: figureOf(turns.map(({ firstToken }) => first / (firstToken[0] as number))),
    firstToken: prompts.map((tokens, i) => ({ tokens, seconds: figureOf(turns.map(({ firstToken }) => firstToken[i] as number)) })),
    decode: figureOf(turns.map(({ perToken }) => 1 / perToken)),
    memoryBytes: Math.max(...turns.map(({ memoryBytes }) => memoryBytes)),
    keyValueBytes: turns[0]?.keyValueBytes ?? 0,
    perplexities,
  }
}

function figureOf(values: readonly number[]): Figure {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  const value = ((sorted[Math.floor(middle)] as number) + (sorted[Math.ceil(middle)] as number)) / 2
  return { value, low: sorted[0] as number, high: sorted.at(-1) as number }
}

/** This release of llama.cpp assumes that one in this many blocks of a family has no window. Newer releases read it from the file. */
const windowPeriods: Readonly<Record<string, number>> = { gemma2: 2, gemma3: 6, gemma3_text: 6, gpt_oss: 2 }

/**
 * Whether llama.cpp assumes sliding windows in other blocks than the file lists, because blocks were removed. Its answers would be wrong.
 */
export function hasUnreadWindows(spec: DecoderSpec): boolean {
  const period = windowPeriods[spec.family]
  return period !== undefined && spec.blocks.some((_, index) => (spec.slidingWindow(index) !== undefined) !== ((index + 1) % period !== 0))
}
