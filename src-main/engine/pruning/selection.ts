/** Orders the indices of values: smallest value first, NaN last, ties by index. */
export const bySmallest =
  (values: ArrayLike<number>) =>
  (a: number, b: number): number => {
    const [first, second] = [values[a] as number, values[b] as number]
    if (Number.isNaN(first) || Number.isNaN(second)) return Number(Number.isNaN(first)) - Number(Number.isNaN(second)) || a - b
    // Two infinities have no difference.
    return first === second ? a - b : first - second
  }

/** Returns the indices of values, smallest value first and NaN last. Ties go to the lower index. */
export const ascending = (values: ArrayLike<number>): number[] => Array.from(values, (_, index) => index).sort(bySmallest(values))

/** Returns the indices of values, largest value first. Ties go to the lower index. */
export const descending = (values: readonly number[]): number[] => ascending(values.map((value) => -value))

/** The `count` largest of some scores. */
interface Largest {
  /** Their indices, ascending. */
  readonly indices: number[]
  /** The smallest selected score. */
  readonly cut: number
  /** How far the largest score that was not selected is below `cut`, relative to `cut`. 1 if all were selected. */
  readonly margin: number
}

/** Picks the `count` largest scores. Ties go to the lower index. */
export function largest(scores: readonly number[], count: number): Largest {
  const order = descending(scores)
  const cut = scores[order[count - 1] ?? -1] ?? Number.NaN
  const next = scores[order[count] ?? -1]
  return {
    indices: order.slice(0, count).sort((a, b) => a - b),
    cut,
    margin: next === undefined ? 1 : Math.abs(cut - next) / Math.abs(cut || 1),
  }
}

/** Returns the indices of the `count` smallest scores, smallest first. Ties go to the lower index. */
export function smallest(scores: readonly number[], count: number): number[] {
  return ascending(scores).slice(0, count)
}

/** Rounds to the nearest whole number, and halves to the even one, like Python's `round`. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}
