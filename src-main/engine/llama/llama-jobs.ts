import { basename } from 'node:path'
import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import { EspalierError } from '#contract/errors.ts'
import { shortestTurnSeconds } from '#contract/exports/file-bench.ts'
import { plural } from '#contract/words.ts'
import { deviceList, floatsAt, type LlamaLibrary, openLlama, type Parameters, takeProblems } from './llama-library.ts'

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
let [path, tokensFed] = ['', 0]
/** Bytes of the process before its first file: a later file reuses memory that an earlier one gave back. */
let bytesBefore: number | undefined

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

/** Throws if a logit is NaN or infinite: neither a time nor a perplexity of such a file means anything. */
function requireLogits(logits: Float32Array, tokens: number): void {
  if (logits.every(Number.isFinite)) return
  throw new EspalierError(
    'invalid',
    `llama.cpp's prediction with ${basename(path)} after ${plural(tokens, 'token')} is infinite or not a number. The file is damaged: save or download it again.`,
  )
}

/** Feeds tokens and returns the likeliest next one. */
function nextAfter(tokens: Int32Array): number {
  let next = 0
  tokensFed += tokens.length
  current().feed(tokens, (logits) => {
    requireLogits(logits, tokensFed)
    next = likeliest(logits)
  })
  return next
}

function clear(): void {
  current().clear()
  tokensFed = 0
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
  clear()
  const empty = model.stateBytes
  const prompt = promptOf(prompts.at(-1) ?? 0, model)
  const firstToken: number[] = []
  let next = 0
  const start = performance.now()
  for (const [i, tokens] of prompts.entries()) {
    next = nextAfter(prompt.subarray(prompts[i - 1] ?? 0, tokens))
    firstToken.push(secondsSince(start))
  }
  const memoryBytes = Math.max(0, process.memoryUsage.rss() - (bytesBefore ?? 0))
  const keyValueBytes = (model.stateBytes - empty) / prompt.length
  if (prompts.length > 1) {
    clear()
    next = nextAfter(promptOf(at(prompts, 0), model))
  }
  const { seconds } = writeFrom(next, written + 1)
  return { firstToken, perToken: seconds / written, memoryBytes, keyValueBytes }
}

/** The jobs of the process. They use the file that was opened last. */
export const jobs = {
  /** Opens a file and returns the context length that the model was trained for. */
  open(opened: string, settings: LlamaSettings): number {
    openLlama()
    file?.close()
    file = undefined
    path = opened
    bytesBefore ??= process.memoryUsage.rss()
    file = new LlamaFile(path, settings)
    // A first pass reads every weight, so that no timing includes this.
    clear()
    nextAfter(promptOf(32, file))
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

  /** Sum of the negative log likelihoods of a window's tokens after the first `given` ones, in nats. */
  loss(window: Int32Array, given = 1): number {
    const model = current()
    clear()
    let sum = 0
    const add = (logits: Float32Array, position: number) => {
      if (position + 1 < given) return
      requireLogits(logits, position + 1)
      sum += lossOf(logits, window[position + 1] as number)
    }
    model.feed(window.subarray(0, -1), add, () => true)
    return sum
  },

  /** Logits after every token of a window, row by row. */
  logits(window: Int32Array): Float32Array {
    const model = current()
    clear()
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
    clear()
    const { ids, seconds } = writeFrom(nextAfter(prompt), count)
    return { ids, tokensPerSecond: (count - 1) / seconds }
  },

  tokenize: (texts: readonly string[]): number[][] => texts.map((text) => current().tokenize(text)),

  quantize: quantizeFile,
}

export type LlamaJobs = typeof jobs

/** How a file is opened. */
interface LlamaSettings {
  /** Tokens that fit in the context. */
  readonly context: number
  readonly threads: number
  /** A device's name in ggml. `CPU` is the processor. */
  readonly device: string
  /** Whether to use float32 keys and values and plain attention, so that differences come only from the file. */
  readonly exact?: boolean
}

/** The number of tokens computed in one call: llama.cpp's default. */
const tokensAtOnce = 512
/** The maximum number of logits that one call returns. */
const mostLogits = 2 ** 26

/** A GGUF file opened by llama.cpp, with one context. Open it only in a process of its own, because a failed assertion ends the process. */
export class LlamaFile {
  readonly vocabularySize: number
  readonly trainedContext: number
  readonly #llama: LlamaLibrary
  readonly #model: unknown
  readonly #context: unknown

  constructor(path: string, { context, threads, device, exact = false }: LlamaSettings) {
    this.#llama = openLlama()
    const llama = this.#llama
    const onProcessor = device === 'CPU'
    const model: unknown = llama.load(path, {
      ...(llama.modelDefaults() as Parameters),
      devices: deviceList(device),
      ...(onProcessor ? { n_gpu_layers: 0 } : {}),
      ...(exact ? { use_extra_bufts: false } : {}),
    })
    if (model === null) throw refusal('does not load', path)
    this.#model = model
    const batch = Math.min(tokensAtOnce, context)
    this.#context = llama.start(model, {
      ...(llama.contextDefaults() as Parameters),
      n_ctx: context,
      n_batch: batch,
      n_ubatch: batch,
      n_threads: threads,
      n_threads_batch: threads,
      ...(exact ? { flash_attn_type: 0, type_k: 0, type_v: 0 } : {}),
    })
    if (this.#context === null) {
      llama.freeModel(model)
      throw refusal(`has no room for ${context} tokens of context with`, path)
    }
    this.vocabularySize = Number(llama.vocabularySize(llama.vocabulary(model)))
    this.trainedContext = Number(llama.trainedContext(model))
  }

  get chatTemplate(): string | null {
    return this.#llama.chatTemplate(this.#model, null) as string | null
  }

  /** Empties the context. */
  clear(): void {
    this.#llama.clear(this.#llama.memory(this.#context), true)
  }

  /**
   * Feeds tokens after the earlier ones. Calls `onRow` with the logits of each position in `wanted` (default: the last one), which are
   * valid only during that call.
   */
  feed(
    ids: Int32Array,
    onRow: (logits: Float32Array, position: number) => unknown,
    wanted: (position: number) => boolean = (position) => position === ids.length - 1,
  ): void {
    const atOnce = Math.max(1, Math.min(tokensAtOnce, Math.floor(mostLogits / this.vocabularySize)))
    for (let first = 0; first < ids.length; first += atOnce) {
      const tokens = ids.slice(first, first + atOnce)
      const marks = Int8Array.from(tokens, (_, i) => Number(wanted(first + i)))
      const batch = { n_tokens: tokens.length, token: tokens, embd: null, pos: null, n_seq_id: null, seq_id: null, logits: marks }
      const code: unknown = this.#llama.decode(this.#context, batch)
      if (code !== 0)
        throw new EspalierError('invalid', `llama.cpp could not compute ${tokens.length} tokens (code ${code}). ${takeProblems()}`.trim())
      for (const [i, mark] of marks.entries())
        if (mark === 1) onRow(floatsAt(this.#llama.logits(this.#context, i), this.vocabularySize), first + i)
    }
  }

  /** Bytes of keys and values of the tokens so far, as llama.cpp would save them. */
  get stateBytes(): number {
    return Number(this.#llama.sequenceBytes(this.#context, 0))
  }

  tokenize(text: string): number[] {
    const bytes = Buffer.byteLength(text)
    const ids = new Int32Array(bytes + 8)
    const count = Number(this.#llama.tokenize(this.#llama.vocabulary(this.#model), text, bytes, ids, ids.length, false, true))
    return [...ids.subarray(0, count)]
  }

  close(): void {
    this.#llama.freeContext(this.#context)
    this.#llama.freeModel(this.#model)
  }
}

function refusal(what: string, path: string): EspalierError {
  return new EspalierError('invalid', `llama.cpp ${what} ${path}. ${takeProblems()}`.trim())
}

/** Writes a file in another type with llama.cpp's own quantiser. `fileType` is a number of llama.h. */
function quantizeFile(from: string, to: string, fileType: number, threads: number): void {
  const llama = openLlama()
  const params = { ...(llama.quantizeDefaults() as Parameters), ftype: fileType, nthread: threads }
  const code: unknown = llama.quantize(from, to, params)
  if (code !== 0) throw refusal('does not quantise', from)
}
