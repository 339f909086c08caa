/** The `count` largest of some scores. */
export interface Largest {
  /** Their indices, ascending. */
  readonly indices: number[]
  /** The smallest score that is in. */
  readonly cut: number
  /** How far the largest score that is out lies below it, relative to it. */
  readonly margin: number
}

/** Picks the `count` largest scores; equal ones go to the lower index. */
export function largest(scores: readonly number[], count: number): Largest {
  const order = [...scores.keys()].sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0) || a - b)
  const cut = scores[order[count - 1] ?? -1] ?? Number.NaN
  const next = scores[order[count] ?? -1]
  return {
    indices: order.slice(0, count).sort((a, b) => a - b),
    cut,
    margin: next === undefined ? 1 : Math.abs(cut - next) / Math.abs(cut || 1),
  }
}

/** Indices of the `count` smallest scores, the smallest first; equal ones go to the lower index. */
export function smallest(scores: readonly number[], count: number): number[] {
  const order = [...scores.keys()].sort((a, b) => (scores[a] ?? 0) - (scores[b] ?? 0) || a - b)
  return order.slice(0, count)
}
