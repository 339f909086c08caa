import { createHash } from 'node:crypto'
import { copyStream, disposeStreams } from '#engine/model/streams.ts'
import type { Stream } from '#engine/model/walk.ts'
import type { Variant } from './trunk.ts'

const names = new WeakMap<Int32Array, string>()

/** Returns a name for a window, derived from its ids. */
export function windowName(window: Int32Array): string {
  const known = names.get(window)
  if (known !== undefined) return known
  const name = createHash('sha256')
    .update(new Uint8Array(window.buffer, window.byteOffset, window.byteLength))
    .digest('base64')
  names.set(window, name)
  return name
}

/** The furthest remembered stream on the path of a variant, before part `from`. 0 if none is remembered. */
export interface Reach {
  readonly from: number
  readonly key: string
}

/**
 * Remembers what later calls and later runs on the same model can use: every score, and streams after blocks as far as the limit allows. A
 * stream depends only on the window and on what was removed before it, so runs with other sparsities and seeds find it too. The least
 * recently used stream is dropped first.
 */
export class VariantMemory {
  /** The sum of the scores of a window, by place and variant. A place names a window and the products used. */
  readonly #scores = new Map<string, number>()
  readonly #streams = new Map<string, Stream>()
  readonly #limitBytes: number
  #bytes = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** Returns the remembered score of a variant, if any. */
  scoreOf(place: string, variant: Variant): number | undefined {
    return this.#scores.get(keyOf(place, variant, variant.length))
  }

  keepScore(place: string, variant: Variant, score: number): void {
    this.#scores.set(keyOf(place, variant, variant.length), score)
  }

  /** Finds the remembered stream furthest along the path of a variant. */
  reach(place: string, variant: Variant): Reach {
    for (let from = variant.length - 2; from > 0; from -= 2) {
      const key = keyOf(place, variant, from)
      if (this.#streams.has(key)) return { from, key }
    }
    return { from: 0, key: place }
  }

  /** Returns a copy of a stream that `reach` found. */
  take(key: string): Stream {
    const stream = this.#streams.get(key)
    if (!stream) throw new RangeError('This stream is no longer remembered.')
    this.#streams.delete(key)
    this.#streams.set(key, stream)
    return copyStream(stream)
  }

  /** Keeps a copy of a stream before a part. Older streams make room for it, unless it exceeds the limit alone. */
  keep(place: string, variant: Variant, from: number, stream: Stream): void {
    const key = keyOf(place, variant, from)
    const bytes = bytesOf(stream)
    if (this.#streams.has(key) || bytes > this.#limitBytes) return
    for (const [oldest, old] of this.#streams) {
      if (this.#bytes + bytes <= this.#limitBytes) break
      this.#streams.delete(oldest)
      this.#bytes -= bytesOf(old)
      disposeStreams([old])
    }
    this.#streams.set(key, copyStream(stream))
    this.#bytes += bytes
  }

  dispose(): void {
    disposeStreams(this.#streams.values())
    this.#streams.clear()
    this.#scores.clear()
    this.#bytes = 0
  }
}

const keyOf = (place: string, variant: Variant, from: number): string => `${place}|${variant.subarray(0, from).join('')}`

/** After a block, the source of a parallel MLP is the stream itself. */
const bytesOf = ({ residual }: Stream): number => 4 * residual.x.size
