import { copyStream, disposeStreams } from '#engine/model/streams.ts'
import type { Stream } from '#engine/model/walk.ts'
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
