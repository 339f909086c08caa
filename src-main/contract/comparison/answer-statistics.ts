/** Length of the runs of tokens that repetition is counted in. */
const repeated = 4

/** The share of an answer's runs of four tokens that stood in it before: 0 says everything once, near 1 goes round in circles. */
export function repetitionRate(ids: readonly number[]): number {
  const runs = Array.from({ length: Math.max(0, ids.length - repeated + 1) }, (_, at) => ids.slice(at, at + repeated).join(' '))
  return runs.length === 0 ? 0 : 1 - new Set(runs).size / runs.length
}

/** The share of places at which two answers have the same token, of the longer one's places. */
export function equalTokens(ids: readonly number[], other: readonly number[]): number {
  const places = Math.max(ids.length, other.length)
  return places === 0 ? 1 : ids.filter((id, at) => other[at] === id).length / places
}
