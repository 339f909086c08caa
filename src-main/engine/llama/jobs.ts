import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import { shortestTurnSeconds } from '#contract/exports/file-bench.ts'
import { openLlama } from './library.ts'
import { LlamaFile, type LlamaSettings, quantizeFile } from './llama-file.ts'

/** The times of one turn, in seconds from an empty context. */
export interface Turn {
  /** Until the first token is known, by prompt length. */
  readonly firstToken: readonly number[]
  /** For each token generated after the shortest prompt. */
  readonly perToken: number
  readonly memoryBytes: number
  readonly keyValueBytes: number
}

let file: LlamaFile | undefined
let bytesBefore = 0

function current(): LlamaFile {
  if (!file) throw new Error('Open a file first.')
  return file
}

/** The same prompt for every file. Its words do not affect the time. */
const promptOf = (tokens: number, { vocabularySize }: LlamaFile): Int32Array =>
  Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % vocabularySize)

const secondsSince = (start: number): number => (performance.now() - start) / 1000

function likeliest(logits: Float32Array): number {
  let best = 0
  for (let i = 1; i < logits.length; i++) if ((logits[i] as number) > (logits[best] as number)) best = i
  return best
}

/** Negative log likelihood of a token in nats. */
function lossOf(logits: Float32Array, token: number): number {
  let most = Number.NEGATIVE_INFINITY
  for (const value of logits) if (value > most) most = value
  let sum = 0
  for (const value of logits) sum += Math.exp(value - most)
  return Math.log(sum) + most - (logits[token] as number)
}

/** The likeliest next token after more tokens. */
function nextAfter(tokens: Int32Array): number {
  let next = 0
  current().feed(tokens, (logits) => {
    next = likeliest(logits)
  })
  return next
}

/** `count` of the likeliest tokens, beginning with `first`, and the seconds for all after it. */
function writeFrom(first: number, count: number): { ids: number[]; seconds: number } {
  const ids = [first]
  const start = performance.now()
  while (ids.length < count) ids.push(nextAfter(Int32Array.of(at(ids, ids.length - 1))))
  return { ids, seconds: secondsSince(start) }
}

function timeOnce(prompts: readonly number[], written: number): Turn {
  const model = current()
  model.clear()
  const empty = model.stateBytes
  const prompt = promptOf(prompts.at(-1) ?? 0, model)
  const firstToken: number[] = []
  let next = 0
  const start = performance.now()
  for (const [i, tokens] of prompts.entries()) {
    next = nextAfter(prompt.subarray(prompts[i - 1] ?? 0, tokens))
    firstToken.push(secondsSince(start))
  }
  const memoryBytes = process.memoryUsage.rss() - bytesBefore
  const keyValueBytes = (model.stateBytes - empty) / prompt.length
  if (prompts.length > 1) {
    model.clear()
    next = nextAfter(promptOf(at(prompts, 0), model))
  }
  const { seconds } = writeFrom(next, written + 1)
  return { firstToken, perToken: seconds / written, memoryBytes, keyValueBytes }
}

/** The jobs of the process, on the last opened file. */
export const jobs = {
  /** Returns the context that the model was trained for. */
  open(path: string, settings: LlamaSettings): number {
    openLlama()
    file?.close()
    file = undefined
    bytesBefore = process.memoryUsage.rss()
    file = new LlamaFile(path, settings)
    // The first pass touches every weight.
    file.feed(promptOf(32, file), () => undefined)
    return file.trainedContext
  },

  /**
   * Times one prompt as long as the last of `prompts`, at the end of each of them, then tokens after the first. Repeats both until the turn
   * is long enough.
   */
  time(prompts: readonly number[], written: number): Turn {
    const begun = performance.now()
    const turns = [timeOnce(prompts, written)]
    while (secondsSince(begun) < shortestTurnSeconds) turns.push(timeOnce(prompts, written))
    return {
      ...at(turns, 0),
      firstToken: prompts.map((_, i) => meanOf(turns.map(({ firstToken }) => at(firstToken, i)))),
      perToken: meanOf(turns.map(({ perToken }) => perToken)),
    }
  },

  /** Negative log likelihood of all tokens of a window after the first, in nats. */
  loss(window: Int32Array): number {
    const model = current()
    model.clear()
    let sum = 0
    const add = (logits: Float32Array, position: number) => {
      sum += lossOf(logits, window[position + 1] as number)
    }
    model.feed(window.subarray(0, -1), add, () => true)
    return sum
  },

  /** Logits after every token of a window, row by row. */
  logits(window: Int32Array): Float32Array {
    const model = current()
    model.clear()
    const rows = new Float32Array(window.length * model.vocabularySize)
    model.feed(
      window,
      (logits, position) => rows.set(logits, position * model.vocabularySize),
      () => true,
    )
    return rows
  },

  /** The likeliest tokens after a prompt, and how many were generated per second. */
  answer(prompt: Int32Array, count: number): { ids: number[]; tokensPerSecond: number } {
    current().clear()
    const { ids, seconds } = writeFrom(nextAfter(prompt), count)
    return { ids, tokensPerSecond: (count - 1) / seconds }
  },

  tokenize: (texts: readonly string[]): number[][] => texts.map((text) => current().tokenize(text)),

  quantize: quantizeFile,
}

export type LlamaJobs = typeof jobs
