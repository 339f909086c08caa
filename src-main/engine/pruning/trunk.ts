import { disposeResidual, type Residual } from '#engine/model/decoder.ts'
import type { Part } from '#engine/model/weights.ts'

/** [2L]: 1 where a part is removed. */
export type Variant = Uint8Array

/** The first position in `parts` at which two variants differ; `parts.length` when they agree. */
export function firstDifference(a: Variant, b: Variant, parts: readonly Part[]): number {
  const position = parts.findIndex((part) => a[part] !== b[part])
  return position < 0 ? parts.length : position
}

/** The residual streams that all candidates of a greedy round share: one in front of each position where a candidate leaves it. */
export class Trunk {
  readonly removed: Variant
  readonly #streams = new Map<number, Residual>()

  constructor(removed: Variant) {
    this.removed = removed
  }

  get(position: number): Residual | undefined {
    return this.#streams.get(position)
  }

  set(position: number, residual: Residual): void {
    this.#streams.set(position, residual)
  }

  /** Frees the stream in front of a position: a later walk computes it again. */
  forget(position: number): void {
    const residual = this.#streams.get(position)
    if (residual) disposeResidual(residual)
    this.#streams.delete(position)
  }

  /** Where a walk has to begin so that it passes a stream in front of each of `starts`. */
  firstPosition(starts: Iterable<number>): number {
    return Math.min(...[...starts].map((start) => this.#knownUpTo(start)))
  }

  #knownUpTo(position: number): number {
    return Math.max(0, ...[...this.#streams.keys()].filter((known) => known <= position))
  }

  /** Whether the trunk's own stream must pass `position` on the way to the next of `starts`. */
  mustRun(position: number, starts: Iterable<number>): boolean {
    const next = Math.min(...[...starts].filter((start) => start > position))
    return next !== Number.POSITIVE_INFINITY && this.#knownUpTo(next) <= position
  }

  /** A trunk for other removals that takes over the streams which still hold; the others are freed. */
  moveTo(removed: Variant, parts: readonly Part[]): Trunk {
    const next = new Trunk(removed)
    const common = firstDifference(this.removed, removed, parts)
    for (const [position, residual] of this.#streams) {
      if (position <= common) next.set(position, residual)
      else disposeResidual(residual)
    }
    this.#streams.clear()
    return next
  }

  dispose(): void {
    for (const residual of this.#streams.values()) disposeResidual(residual)
    this.#streams.clear()
  }
}
