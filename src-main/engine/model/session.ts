import { dispose, gather, type Tensor2D, type Tensor3D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { valuesOf } from '#engine/tensor/read.ts'
import type { Memory } from './cache.ts'
import { finalHidden } from './forward.ts'
import type { ModelView } from './view.ts'
import { headLogits } from './vocabulary.ts'
import { breathe, Walk } from './walk.ts'

/** A batch of sequences that grow token by token; keys and values of what was seen are kept, by block. */
export class DecodingSession {
  readonly #view: ModelView
  readonly #cache = new Map<number, Memory>()
  #length = 0
  #batch = 0

  constructor(view: ModelView) {
    this.#view = view
  }

  /** Positions seen so far. */
  get length(): number {
    return this.#length
  }

  /**
   * Feeds `tokens` further ids of each of `batch` sequences, ids [batch * tokens] in order; the logits that follow the last one of each,
   * `batch` arrays of V. A session keeps its batch; `select` changes it.
   */
  async feed(ids: Int32Array, batch: number, signal?: AbortSignal): Promise<Float32Array[]> {
    const hidden = await this.feedLast(ids, batch, signal)
    const logits = await this.#logitsOf(hidden)
    hidden.dispose()
    return logits
  }

  /** As `feed`, but gives the final hidden states of the last position of each sequence, [batch, D]; the caller disposes of them. */
  async feedLast(ids: Int32Array, batch: number, signal?: AbortSignal): Promise<Tensor2D> {
    const tokens = ids.length / batch
    return this.#feed(ids, batch, signal, (x) =>
      gather(
        x,
        tensor1d(
          range(batch, (i) => (i + 1) * tokens - 1),
          'int32',
        ),
      ),
    )
  }

  /** As `feedLast`, of all positions fed, [batch * tokens, D]. */
  async feedHidden(ids: Int32Array, batch: number, signal?: AbortSignal): Promise<Tensor2D> {
    return this.#feed(ids, batch, signal, (x) => x)
  }

  async #feed(ids: Int32Array, batch: number, signal: AbortSignal | undefined, choose: (x: Tensor2D) => Tensor2D): Promise<Tensor2D> {
    const x = await this.#run(ids, batch, signal)
    const hidden = tidy(() => finalHidden(this.#view, choose(x)))
    x.dispose()
    await breathe()
    return hidden
  }

  async #run(ids: Int32Array, batch: number, signal: AbortSignal | undefined): Promise<Tensor2D> {
    const walk = new Walk(this.#view, this.#view.model.products.answers)
    try {
      const stream = await walk.embed(ids, batch)
      for (const part of this.#view.parts) {
        signal?.throwIfAborted()
        await walk.pass(part, [stream], { past: { length: this.#length, cache: this.#cache } })
      }
      this.#length += stream.tokens
      this.#batch = batch
      stream.residual.source.dispose()
      return stream.residual.x
    } finally {
      walk.dispose()
    }
  }

  /** Logits of final hidden states [N, D]: N arrays of V. */
  async #logitsOf(hidden: Tensor2D): Promise<Float32Array[]> {
    const { vocabulary } = this.#view.model
    const rows = range(hidden.shape[0], () => new Float32Array(this.#view.spec.vocabulary))
    await vocabulary.forEachHeadChunk((chunk) => {
      const logits = valuesOf(() => headLogits(hidden, chunk))
      const size = chunk.weight.shape[0]
      rows.forEach((row, i) => {
        row.set(logits.subarray(i * size, (i + 1) * size), chunk.first)
      })
    })
    return rows
  }

  /** Goes on with the given sequences of the batch, in that order; one may be named more than once. */
  select(sequences: readonly number[]): void {
    if (sequences.length === this.#batch && sequences.every((sequence, place) => sequence === place)) return
    const selected = this.#gatherCache(sequences)
    this.#disposeCache()
    for (const [block, seen] of selected) this.#cache.set(block, seen)
    this.#batch = sequences.length
  }

  /** A session of its own that goes on from here with the given sequences; this one stays as it is. */
  fork(sequences: readonly number[]): DecodingSession {
    const session = new DecodingSession(this.#view)
    for (const [block, seen] of this.#gatherCache(sequences)) session.#cache.set(block, seen)
    session.#length = this.#length
    session.#batch = sequences.length
    return session
  }

  #gatherCache(sequences: readonly number[]): Map<number, Memory> {
    const take = (tensor: Tensor3D): Tensor3D => {
      const each = tensor.shape[0] / this.#batch
      const rows = sequences.flatMap((sequence) => range(each, (row) => sequence * each + row))
      return tidy(() => gather(tensor, tensor1d(rows, 'int32')))
    }
    return new Map([...this.#cache].map(([block, memory]) => [block, mapMemory(memory, take)]))
  }

  #disposeCache(): void {
    for (const memory of this.#cache.values()) dispose({ ...memory })
    this.#cache.clear()
  }

  dispose(): void {
    this.#disposeCache()
  }
}

function mapMemory(memory: Memory, change: (tensor: Tensor3D) => Tensor3D): Memory {
  return 'key' in memory
    ? { key: change(memory.key), value: change(memory.value) }
    : { recent: change(memory.recent), state: change(memory.state) }
}

function range<T>(length: number, at: (index: number) => T): T[] {
  return Array.from({ length }, (_, index) => at(index))
}
