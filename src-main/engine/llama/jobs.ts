import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import { shortestTurnSeconds } from '#contract/exports/file-bench.ts'
import { openLlama } from './library.ts'
import { LlamaFile, type LlamaSettings, quantizeFile } from './llama-file.ts'

/** The times of one turn, in seconds from an empty context. */
export interface Turn {
  /** Until the first token is known, one entry per prompt length. */
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

/** A prompt of a given length. Its words do not affect the time. */
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

/** Feeds tokens and returns the likeliest next one. */
function nextAfter(tokens: Int32Array): number {
  let next = 0
  current().feed(tokens, (logits) => {
    next = likeliest(logits)
  })
  return next
}

/** Generates greedily until there are `count` tokens, of which the first is given. Returns them, and the seconds that the others took. */
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

/** The jobs of the process. They use the file that was opened last. */
export const jobs = {
  /** Opens a file and returns the context length that the model was trained for. */
  open(path: string, settings: LlamaSettings): number {
    openLlama()
    file?.close()
    file = undefined
    bytesBefore = process.memoryUsage.rss()
    file = new LlamaFile(path, settings)
    // A first pass reads every weight, so that no timing includes this.
    file.feed(promptOf(32, file), () => undefined)
    return file.trainedContext
  },

  /**
   * Times one prompt of the longest length in `prompts`, noting the time at each shorter length, and then the generation of `written`
   * tokens. Repeats this until the turn is long enough, and returns mean times.
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

  /** Sum of the negative log likelihoods of a window's tokens after the first, in nats. */
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

  /** Answers a prompt greedily. Returns the tokens, and how many were generated per second. */
  answer(prompt: Int32Array, count: number): { ids: number[]; tokensPerSecond: number } {
    current().clear()
    const { ids, seconds } = writeFrom(nextAfter(prompt), count)
    return { ids, tokensPerSecond: (count - 1) / seconds }
  },

  tokenize: (texts: readonly string[]): number[][] => texts.map((text) => current().tokenize(text)),

  quantize: quantizeFile,
}

export type LlamaJobs = typeof jobs
