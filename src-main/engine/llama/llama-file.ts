import { EspalierError } from '#contract/errors.ts'
import { deviceList, floatsAt, type LlamaLibrary, openLlama, type Parameters, takeProblems } from './library.ts'

/** How a file is opened. */
export interface LlamaSettings {
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
    if (this.#context === null) throw refusal(`has no room for ${context} tokens of context with`, path)
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
export function quantizeFile(from: string, to: string, fileType: number, threads: number): void {
  const llama = openLlama()
  const params = { ...(llama.quantizeDefaults() as Parameters), ftype: fileType, nthread: threads }
  const code: unknown = llama.quantize(from, to, params)
  if (code !== 0) throw refusal('does not quantise', from)
}
