/** Length of the token sequences that count as repetition. */
const repeated = 4

/** Share of an answer's four-token sequences that occurred earlier in it: 0 means no repetition, near 1 means it loops. */
export function repetitionRate(ids: readonly number[]): number {
  const runs = Array.from({ length: Math.max(0, ids.length - repeated + 1) }, (_, at) => ids.slice(at, at + repeated).join(' '))
  return runs.length === 0 ? 0 : 1 - new Set(runs).size / runs.length
}

/** A loop is a stretch of at most 64 tokens, repeated at least three times in a row, 16 tokens or more in total. */
const [leastTurns, leastTokens, longestTurn] = [3, 16, 64]

/** Whether an answer ends in a loop. */
export function endsInLoop(ids: readonly number[]): boolean {
  for (let turn = 1; turn <= longestTurn; turn++) {
    const length = Math.max(leastTurns * turn, leastTokens)
    if (length > ids.length) return false
    const last = ids.slice(-length)
    if (last.every((id, place) => place < turn || id === last[place - turn])) return true
  }
  return false
}

/** Share of positions at which two answers have the same token, relative to the longer answer. */
export function equalTokens(ids: readonly number[], other: readonly number[]): number {
  const places = Math.max(ids.length, other.length)
  return places === 0 ? 1 : ids.filter((id, at) => other[at] === id).length / places
}
