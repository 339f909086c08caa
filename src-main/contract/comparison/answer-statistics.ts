/** Length of the token sequences that count as repetition. */
const repeated = 4

/** Share of an answer's four-token sequences that occurred earlier in it: 0 means no repetition, near 1 means it loops. */
export function repetitionRate(ids: readonly number[]): number {
  const runs = Array.from({ length: Math.max(0, ids.length - repeated + 1) }, (_, at) => ids.slice(at, at + repeated).join(' '))
  return runs.length === 0 ? 0 : 1 - new Set(runs).size / runs.length
}

/** Share of positions at which two answers have the same token, relative to the longer answer. */
export function equalTokens(ids: readonly number[], other: readonly number[]): number {
  const places = Math.max(ids.length, other.length)
  return places === 0 ? 1 : ids.filter((id, at) => other[at] === id).length / places
}
