/** Natural logarithms of the probabilities of logits [V], in float64. */
export function logProbabilities(logits: ArrayLike<number>): Float64Array {
  const { length } = logits
  let top = Number.NEGATIVE_INFINITY
  for (let i = 0; i < length; i++) top = Math.max(top, logits[i] as number)
  let sum = 0
  for (let i = 0; i < length; i++) sum += Math.exp((logits[i] as number) - top)
  const shift = top + Math.log(sum)
  // A plain loop, because with a function call per element this took longer than generating the token.
  const result = new Float64Array(length)
  for (let i = 0; i < length; i++) result[i] = (logits[i] as number) - shift
  return result
}

/** Indices of the `count` largest values, largest first; ties go to the lower index. Keeps the best indices so far in `best`. */
export function topIndices(values: ArrayLike<number>, count: number): number[] {
  const best: number[] = []
  /** The smallest of the best values. NaN until there are `count` of them, so that no value counts as smaller. */
  let least = Number.NaN
  for (let index = 0; index < values.length; index++) {
    const value = values[index] as number
    if (value <= least) continue
    let place = best.length
    while (place > 0 && (values[best[place - 1] as number] as number) < value) place--
    best.splice(place, 0, index)
    if (best.length > count) best.pop()
    if (best.length === count) least = values[best[count - 1] as number] as number
  }
  return best
}

/** Tokens that would complete an n-gram that `ids` already contains. */
export function repeatedNgramEnds(ids: readonly number[], size: number): Set<number> {
  const ends = new Set<number>()
  if (size <= 0 || ids.length + 1 < size) return ends
  const prefix = ids.slice(ids.length - size + 1)
  for (let start = 0; start + size <= ids.length; start++) {
    if (prefix.every((id, i) => ids[start + i] === id)) ends.add(ids[start + size - 1] as number)
  }
  return ends
}
