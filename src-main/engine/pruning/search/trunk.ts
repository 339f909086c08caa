import { createHash } from 'node:crypto'
import { concat, slice, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import type { Windows } from '#engine/data/windows.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import { type DenseDistribution, denseDistribution } from '#engine/model/parts/head/row-divergences.ts'
import type { HeadPass } from '#engine/model/parts/head/token-losses.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { copyStream, disposeStreams, type Stream } from '#engine/model/walk.ts'
import type { Part } from '#engine/model/weights/weights.ts'

/** The parts that a variant of a model lacks, [2L]: 1 for each removed part. */
export type Variant = Uint8Array

/** Returns the first position in `parts` at which two variants differ, or `parts.length` if they are equal. */
export function firstDifference(a: Variant, b: Variant, parts: readonly Part[]): number {
  const position = parts.findIndex((part) => a[part] !== b[part])
  return position < 0 ? parts.length : position
}

/**
 * The path that all candidates of a walk share. It keeps the streams at the positions where candidates branch off, for later walks too.
 * Missing streams are computed by the stem, a stream of the trunk that walks along with the candidates and only as far as needed.
 */
export class Trunk {
  readonly removed: Variant
  readonly #kept = new Map<number, Stream>()
  #stem: Stream | undefined

  /** `root` is the stream before the first part. */
  constructor(removed: Variant, root: Stream) {
    this.removed = removed
    this.#kept.set(0, root)
  }

  /** Returns the position at which a walk has to begin to reach all of `starts`. */
  firstPosition(starts: Iterable<number>): number {
    return Math.min(...[...starts].map((start) => this.#keptUpTo(start)))
  }

  /** Returns the last position up to `position` that has a kept stream. */
  #keptUpTo(position: number): number {
    return Math.max(0, ...[...this.#kept.keys()].filter((kept) => kept <= position))
  }

  /** Called when a walk reaches a position. Keeps the stem's stream if candidates branch off here, and starts or ends the stem. */
  arrive(position: number, starts: ReadonlySet<number>): void {
    const next = Math.min(...[...starts].filter((start) => start > position))
    if (this.#stem && starts.has(position) && !this.#kept.has(position)) this.#kept.set(position, copyStream(this.#stem))
    const needed = next !== Number.POSITIVE_INFINITY && this.#keptUpTo(next) <= position
    if (!needed) this.rest()
    else this.#stem ??= this.leave(position)
  }

  /** The stem, which passes the next part with the candidates; empty if it is not needed. */
  get stem(): readonly Stream[] {
    return this.#stem ? [this.#stem] : []
  }

  /** Returns a copy of the stream before a position, for candidates that branch off there. */
  leave(position: number): Stream {
    const kept = this.#kept.get(position)
    if (!kept) throw new RangeError(`The trunk has no stream before position ${position}.`)
    return copyStream(kept)
  }

  /** Frees the stream before a position. A later walk computes it again. */
  forget(position: number): void {
    const kept = this.#kept.get(position)
    if (kept) disposeStreams([kept])
    this.#kept.delete(position)
  }

  /** Ends the stem. */
  rest(): void {
    disposeStreams(this.stem)
    this.#stem = undefined
  }

  /** Returns the trunk for other removals and disposes of this one. Streams that are still valid are kept. */
  moveTo(removed: Variant, parts: readonly Part[]): Trunk {
    const common = firstDifference(this.removed, removed, parts)
    const next = new Trunk(removed, this.leave(0))
    for (const position of [...this.#kept.keys()]) {
      if (position > 0 && position <= common) next.#kept.set(position, this.leave(position))
    }
    this.dispose()
    return next
  }

  dispose(): void {
    this.rest()
    disposeStreams(this.#kept.values())
    this.#kept.clear()
  }
}

/**
 * Computes what divergences need of the dense model's answer to each window, and keeps it as far as the limit allows. The first windows are
 * kept. A search that scores on them again finds them, which saves a sixth to a fifth of EvoPress's work. Windows run one by one, so a
 * resumed search that kept other windows gets the same numbers.
 */
export class DenseStates {
  readonly #view: ModelView
  readonly #limitBytes: number
  readonly #kept = new Map<string, DenseDistribution>()
  #bytes = 0
  /** How many windows were run so far. */
  passes = 0

  constructor(view: ModelView, limitBytes: number) {
    this.#view = view
    this.#limitBytes = limitBytes
  }

  /**
   * Returns the distributions of windows of equal length, computed with `products` and stacked: [B*T] rows. The caller disposes of them.
   */
  async of(windows: Windows, { products = this.#view.model.products.deciding, signal }: HeadPass = {}): Promise<DenseDistribution> {
    const nameOf = (window: Int32Array) => `${products}|${windowName(window)}`
    const missing = windows.filter((window) => !this.#kept.has(nameOf(window)))
    const fresh = missing.length > 0 ? await this.#run(missing, { products, signal }) : new Map<Int32Array, DenseDistribution>()
    const all = windows.map((window) => this.#kept.get(nameOf(window)) ?? (fresh.get(window) as DenseDistribution))
    const joined = tidy(() => ({
      hidden: concat(
        all.map(({ hidden }) => hidden),
        0,
      ),
      mean: concat(
        all.map(({ mean }) => mean),
        0,
      ),
      logNormalizer: concat(
        all.map(({ logNormalizer }) => logNormalizer),
        0,
      ),
    }))
    for (const [window, distribution] of fresh) this.#keep(nameOf(window), distribution)
    return joined
  }

  async #run(windows: Windows, how: HeadPass): Promise<Map<Int32Array, DenseDistribution>> {
    const results = new Map<Int32Array, DenseDistribution>()
    this.passes += windows.length
    await runWindows(
      this.#view,
      windows,
      {
        ...how,
        afterStack: async (group, x) => {
          const hidden = finalHidden(this.#view, x)
          const all = await denseDistribution(this.#view.model.vocabulary, hidden, how).catch((error) => {
            hidden.dispose()
            throw error
          })
          group.indices.forEach((index, i) => {
            results.set(windows[index] as Int32Array, rowsOf(all, i * group.tokens, group.tokens))
          })
          disposeDistribution(all)
        },
      },
      1,
    )
    return results
  }

  #keep(name: string, distribution: DenseDistribution): void {
    const bytes = 4 * (2 * distribution.hidden.size + distribution.logNormalizer.size)
    if (this.#bytes + bytes > this.#limitBytes) {
      disposeDistribution(distribution)
      return
    }
    this.#bytes += bytes
    this.#kept.set(name, distribution)
  }

  dispose(): void {
    for (const distribution of this.#kept.values()) disposeDistribution(distribution)
    this.#kept.clear()
    this.#bytes = 0
  }
}

function rowsOf({ hidden, mean, logNormalizer }: DenseDistribution, first: number, count: number): DenseDistribution {
  const rows = (x: Tensor2D): Tensor2D => slice(x, [first, 0], [count, -1])
  return { hidden: rows(hidden), mean: rows(mean), logNormalizer: slice(logNormalizer, [first], [count]) }
}

export function disposeDistribution({ hidden, mean, logNormalizer }: DenseDistribution): void {
  for (const tensor of [hidden, mean, logNormalizer]) tensor.dispose()
}

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
