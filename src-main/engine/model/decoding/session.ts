import { dispose, gather, slice, type Tensor2D, type Tensor3D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { plural } from '#contract/words.ts'
import { requireFinite } from '#engine/model/finite.ts'
import { finalHidden } from '#engine/model/forward.ts'
import { type DeltaMemory, KeyValueSlots, Past, type PlacedSequence } from '#engine/model/parts/attention/cache.ts'
import { headLogits, type Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { disposeResidual } from '#engine/model/parts/part.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { breathe, pause, Walk } from '#engine/model/walk.ts'
import { groupStored } from '#engine/tensor/narrow.ts'
import { fewRows, type Products } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { type DecodeJob, decodeRows, decodesRows } from './decode-rows.ts'

/** What a session and its forks share. */
interface Shared {
  readonly walk: Walk
  readonly cache: KeyValueSlots
  sessions: number
}

/** What DeltaNets remember of sequences, by block. */
type Memories = Map<number, DeltaMemory>

/** A sequence: the slots of its positions, and the cache that they belong to. */
export interface HeldSequence {
  readonly cache: KeyValueSlots
  readonly slots: readonly number[]
}

/** A line of tokens that continues the first `after` tokens of an earlier line of the same call, whose index is `from`. */
export interface Branch {
  readonly from: number
  readonly after: number
  readonly ids: Int32Array
}

/** The maximum number of rows of logits in memory at once. */
const rowsAtOnce = 64

/**
 * A long sequence is read in chunks of this many tokens, so that a stop is noticed between two parts of one. On a CPU in float32, logits are
 * the same bits in SmolLM2 and Qwen2.5, and differ by 3e-5 in Gemma 3. The last chunk has up to twice as many,
 * because few rows take other operations. A multiple of a DeltaNet's chunks of 64.
 */
const tokensAtOnce = 512

/** Sequences that grow token by token. The keys and values of tokens already read are kept, and shared where sequences begin equally. */
export class DecodingSession {
  readonly #view: ModelView
  readonly #shared: Shared
  #sequences: number[][] = []
  /** The positions of each sequence that were read completely. A cancelled feed leaves slots without keys and values behind. */
  #read = 0
  readonly #memories: Memories = new Map()

  /** `products` defaults to the model's products for answers. */
  constructor(view: ModelView, { products = view.model.products.answers, shared }: { products?: Products; shared?: Shared } = {}) {
    this.#view = view
    this.#shared = shared ?? { walk: new Walk(view, products, { keepsPacked: true }), cache: new KeyValueSlots(view.spec), sessions: 0 }
    this.#shared.sessions++
  }

  /** Starts a session with one sequence, which continues another sequence of the same view. */
  static after(view: ModelView, { cache, slots }: HeldSequence): DecodingSession {
    const shared = { walk: new Walk(view, view.model.products.answers, { keepsPacked: true }), cache: cache.hold(), sessions: 0 }
    const session = new DecodingSession(view, { shared })
    session.#sequences = [cache.share(slots)]
    session.#read = slots.length
    return session
  }

  /**
   * Returns what was read of the first sequence, to keep it beyond the session. The caller must release its slots and dispose of its cache.
   */
  hold(): HeldSequence {
    const { cache } = this.#shared
    return { cache: cache.hold(), slots: cache.share((this.#sequences[0] ?? []).slice(0, this.#read)) }
  }

  /**
   * Feeds the same number of ids to each of `batch` sequences, ids [batch * tokens] in order. Returns the logits after each sequence's last
   * token: `batch` arrays of V. The batch of a session stays the same unless `select` changes it.
   */
  async feed(ids: Int32Array, batch: number, signal?: AbortSignal): Promise<Float32Array[]> {
    const chunks = batch === 1 ? this.#chunksOf(ids) : [ids]
    for (const chunk of chunks.slice(0, -1)) (await this.#readChunk(chunk, signal, (x) => lastRows(x, 1))).dispose()
    const last = chunks.at(-1) ?? ids
    const tokens = last.length / batch
    const placed = this.#place(Array.from({ length: batch }, () => tokens))
    const logits = this.#isFew(last.length)
      ? await decodeTogether(this.#job(placed, last, signal))
      : await this.#logitsOfLast(placed, last, signal)
    this.#read += tokens
    for (const one of logits) this.#requireLogits(one, this.#read)
    return logits
  }

  /** Weights that are read from the disk are read once for all of a sequence. */
  #chunksOf(ids: Int32Array): Int32Array[] {
    const count = this.#view.model.store.streams ? 1 : Math.max(1, Math.floor(ids.length / tokensAtOnce))
    return Array.from({ length: count }, (_, chunk) => {
      const first = chunk * tokensAtOnce
      return ids.subarray(first, chunk === count - 1 ? ids.length : first + tokensAtOnce)
    })
  }

  async #readChunk(ids: Int32Array, signal: AbortSignal | undefined, choose: (x: Tensor2D) => Tensor2D): Promise<Tensor2D> {
    const hidden = await this.#hiddenOf(this.#place([ids.length]), ids, signal, choose)
    this.#read += ids.length
    return hidden
  }

  async #logitsOfLast(placed: readonly PlacedSequence[], ids: Int32Array, signal: AbortSignal | undefined): Promise<Float32Array[]> {
    const hidden = await this.#hiddenOf(placed, ids, signal, (x) => lastRows(x, placed.length))
    const logits = await logitsOf(this.#view.model.vocabulary, hidden)
    hidden.dispose()
    return logits
  }

  /**
   * Computes the final hidden states of lines of tokens in one pass: [N, D], line after line. Lines may have different lengths, and a line
   * may continue the beginning of an earlier one, which is then not computed again. The session's own sequences are neither used nor
   * changed.
   */
  async hiddenOfBranches(lines: readonly Branch[], signal?: AbortSignal): Promise<Tensor2D> {
    const { cache } = this.#shared
    const placed: PlacedSequence[] = []
    const memories: Memories = new Map()
    for (const { from, after, ids } of lines) {
      const before = cache.share((placed[from]?.slots ?? []).slice(0, after))
      placed.push({ slots: [...before, ...cache.take(ids.length)], tokens: ids.length, ...(after > 0 ? { from } : {}) })
    }
    try {
      return await this.#hiddenOf(placed, joined(lines.map(({ ids }) => ids)), signal, (x) => x, memories)
    } finally {
      for (const { slots } of placed) cache.giveBack(slots)
      clearMemories(memories)
    }
  }

  /** Feeds one sequence, and awaits `read` with the logits after each of its tokens, starting with the token at index `first`. */
  async feedAlong(
    ids: Int32Array,
    first: number,
    read: (logits: Float32Array) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    let before = 0
    for (const chunk of this.#chunksOf(ids)) {
      const hidden = await this.#readChunk(chunk, signal, (x) => x)
      try {
        for (let row = Math.max(0, first - before); row < chunk.length; row += rowsAtOnce) {
          signal?.throwIfAborted()
          const rows: Tensor2D = slice(hidden, [row, 0], [Math.min(rowsAtOnce, chunk.length - row), -1])
          const logits = await logitsOf(this.#view.model.vocabulary, rows)
          rows.dispose()
          for (const [at, one] of logits.entries()) {
            this.#requireLogits(one, this.#read - chunk.length + row + at + 1)
            await read(one)
          }
        }
      } finally {
        hidden.dispose()
      }
      before += chunk.length
    }
  }

  /** Throws if a logit is not a finite number. `tokens` is how many tokens the sequence had then. */
  #requireLogits(logits: Float32Array, tokens: number): void {
    requireFinite(logits, `The prediction of ${this.#view.model.name} after ${plural(tokens, 'token')}`)
  }

  /** Assigns slots to new positions of the sequences. Creates the sequences if there are none yet. */
  #place(tokens: readonly number[]): PlacedSequence[] {
    if (this.#sequences.length === 0) this.#sequences = tokens.map(() => [])
    if (this.#sequences.length !== tokens.length)
      throw new Error(`A session of ${this.#sequences.length} sequences was fed ${tokens.length}.`)
    return this.#sequences.map((slots, index) => {
      const count = tokens[index] as number
      slots.push(...this.#shared.cache.take(count))
      return { slots, tokens: count }
    })
  }

  #isFew(rows: number): boolean {
    return this.#shared.walk.products !== 'split' && decodesRows(this.#view, rows)
  }

  #job(sequences: readonly PlacedSequence[], ids: Int32Array, signal: AbortSignal | undefined): DecodeJob {
    const { walk, cache } = this.#shared
    return { view: this.#view, walk, cache, sequences, ids, signal }
  }

  async #hiddenOf(
    placed: readonly PlacedSequence[],
    ids: Int32Array,
    signal: AbortSignal | undefined,
    choose: (x: Tensor2D) => Tensor2D,
    memories = this.#memories,
  ): Promise<Tensor2D> {
    const x = this.#isFew(ids.length) ? await decodeRows([this.#job(placed, ids, signal)]) : await this.#walk(placed, ids, signal, memories)
    const hidden = tidy(() => finalHidden(this.#view, choose(x)))
    x.dispose()
    await breathe()
    return hidden
  }

  async #walk(placed: readonly PlacedSequence[], ids: Int32Array, signal: AbortSignal | undefined, memories: Memories): Promise<Tensor2D> {
    const { walk, cache } = this.#shared
    const past = new Past(placed, cache, memories)
    try {
      const stream = await walk.embed(ids, 1)
      try {
        for (const part of this.#view.parts) {
          if (ids.length > fewRows) await pause(signal)
          else signal?.throwIfAborted()
          await walk.pass(part, [stream], { past })
        }
      } catch (thrown) {
        disposeResidual(stream.residual)
        throw thrown
      }
      stream.residual.source.dispose()
      return stream.residual.x
    } finally {
      past.dispose()
    }
  }

  /** Continues with the given sequences of the batch, in this order. A sequence may be given more than once. */
  select(sequences: readonly number[]): void {
    if (sequences.length === this.#sequences.length && sequences.every((sequence, place) => sequence === place)) return
    const { cache } = this.#shared
    const selected = sequences.map((sequence) => cache.share(this.#sequences[sequence] as number[]))
    const memories = this.#memoriesOf(sequences)
    this.#giveBack()
    this.#sequences = selected
    for (const [block, memory] of memories) this.#memories.set(block, memory)
  }

  /** Returns a new session that continues from here with the given sequences. This session does not change. */
  fork(sequences: readonly number[]): DecodingSession {
    const session = new DecodingSession(this.#view, { shared: this.#shared })
    session.#sequences = sequences.map((sequence) => this.#shared.cache.share(this.#sequences[sequence] as number[]))
    session.#read = this.#read
    for (const [block, memory] of this.#memoriesOf(sequences)) session.#memories.set(block, memory)
    return session
  }

  #memoriesOf(sequences: readonly number[]): Memories {
    const take = (tensor: Tensor3D): Tensor3D => {
      const each = tensor.shape[0] / this.#sequences.length
      const rows = sequences.flatMap((sequence) => Array.from({ length: each }, (_, row) => sequence * each + row))
      return tidy(() => gather(tensor, tensor1d(rows, 'int32')))
    }
    return new Map([...this.#memories].map(([block, { recent, state }]) => [block, { recent: take(recent), state: take(state) }]))
  }

  #giveBack(): void {
    for (const slots of this.#sequences) this.#shared.cache.giveBack(slots)
    this.#sequences = []
    clearMemories(this.#memories)
  }

  dispose(): void {
    this.#giveBack()
    this.#shared.sessions--
    if (this.#shared.sessions > 0) return
    this.#shared.walk.dispose()
    this.#shared.cache.dispose()
  }
}

function clearMemories(memories: Memories): void {
  for (const memory of memories.values()) dispose({ ...memory })
  memories.clear()
}

function joined(arrays: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(arrays.reduce((sum, { length }) => sum + length, 0))
  let first = 0
  for (const array of arrays) {
    all.set(array, first)
    first += array.length
  }
  return all
}

/** Selects the last row of each of `count` sequences of equal length. */
function lastRows(x: Tensor2D, count: number): Tensor2D {
  const tokens = x.shape[0] / count
  return gather(x, tensor1d(Int32Array.from({ length: count }, (_, index) => (index + 1) * tokens - 1)))
}

/** A request that waits to be decoded, and the functions that settle its promise. */
interface Waiting {
  readonly job: DecodeJob
  resolve(logits: Float32Array[]): void
  reject(error: unknown): void
}

let waiting: Waiting[] = []

/**
 * Returns the logits after the last new token of each sequence. Requests made at the same time, for instance by columns of the playground,
 * are computed together, because reading weights takes most of the time.
 */
function decodeTogether(job: DecodeJob): Promise<Float32Array[]> {
  return new Promise((resolve, reject) => {
    waiting.push({ job, resolve, reject })
    if (waiting.length === 1) void breathe().then(decodeWaiting)
  })
}

async function decodeWaiting(): Promise<void> {
  const requests = waiting
  waiting = []
  for (const group of groupsOf(requests)) {
    try {
      const logits = await decodeGroup(group)
      for (const { job, resolve, reject } of group) {
        const ofJob = logits.splice(0, job.sequences.length)
        if (job.signal?.aborted) reject(job.signal.reason)
        else resolve(ofJob)
      }
    } catch (error) {
      for (const { reject } of group) reject(error)
    }
  }
}

/**
 * Groups requests by model, vocabulary and kind of products, because a group shares embedding, final norm and head. Each group is small enough
 * for the operations on few rows.
 */
function groupsOf(requests: readonly Waiting[]): Waiting[][] {
  const groups: Waiting[][] = []
  for (const one of requests) {
    const { model } = one.job.view
    const fitting = groups.find((group) => {
      const other = (group[0] as Waiting).job.view.model
      const rows = group.reduce((sum, { job }) => sum + job.ids.length, one.job.ids.length)
      const isShared = other.store === model.store && other.vocabulary === model.vocabulary
      return isShared && other.products.answers === model.products.answers && rows <= fewRows
    })
    if (fitting) fitting.push(one)
    else groups.push([one])
  }
  return groups
}

async function decodeGroup(group: readonly Waiting[]): Promise<Float32Array[]> {
  const { view } = (group[0] as Waiting).job
  const x = await decodeRows(group.map(({ job }) => job))
  const hidden = tidy(() => finalHidden(view, lastRowsOf(x, group)))
  x.dispose()
  try {
    return await logitsOf(view.model.vocabulary, hidden)
  } finally {
    hidden.dispose()
  }
}

/** Selects the row of the last token of each sequence. */
function lastRowsOf(x: Tensor2D, group: readonly Waiting[]): Tensor2D {
  let last = -1
  const rows = group
    .flatMap(({ job }) => job.sequences)
    .map(({ tokens }) => {
      last += tokens
      return last
    })
  return rows.length === x.shape[0] ? x : gather(x, tensor1d(Int32Array.from(rows)))
}

/** Computes the logits of final hidden states [N, D]: N arrays of V. */
async function logitsOf(vocabulary: Vocabulary, hidden: Tensor2D): Promise<Float32Array[]> {
  const [count] = hidden.shape
  let rows: Float32Array[] = []
  await vocabulary.forEachHeadChunk(async (chunk) => {
    if (count <= fewRows) await groupStored(chunk)
    const logits = valuesOf(() => headLogits(hidden, chunk)) as Float32Array
    const size = chunk.weight.shape[0]
    const ofChunk = Array.from({ length: count }, (_, row) => logits.subarray(row * size, (row + 1) * size))
    if (size === vocabulary.size) {
      rows = ofChunk
      return
    }
    if (rows.length === 0) rows = ofChunk.map(() => new Float32Array(vocabulary.size))
    for (const [row, values] of ofChunk.entries()) rows[row]?.set(values, chunk.first)
  })
  return rows
}
