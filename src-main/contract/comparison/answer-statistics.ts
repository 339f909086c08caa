/** The measure that can veto a verdict: the share of answers that end in a loop. */
export const loopingMeasure = 'looping answers'

/** Length of the token sequences that count as repetition. */
const sequenceTokens = 4

/** Returns the share of an answer's four-token sequences that occurred earlier in it: 0 means no repetition, near 1 means that it loops. */
export function repetitionRate(ids: readonly number[]): number {
  const count = Math.max(0, ids.length - sequenceTokens + 1)
  const sequences = Array.from({ length: count }, (_, at) => ids.slice(at, at + sequenceTokens).join(' '))
  return count === 0 ? 0 : 1 - new Set(sequences).size / count
}

/** A loop is a sequence of at most 64 tokens, repeated at least three times in a row, 16 tokens or more in total. */
const minimumTurns = 3
const minimumTokens = 16
const maximumPeriod = 64

/** Whether an answer ends in a loop. */
export function endsInLoop(ids: readonly number[]): boolean {
  for (let period = 1; period <= maximumPeriod; period++) {
    const length = Math.max(minimumTurns * period, minimumTokens)
    if (length > ids.length) return false
    const last = ids.slice(-length)
    if (last.every((id, at) => at < period || id === last[at - period])) return true
  }
  return false
}

/** Returns the number of different three-token sequences of an answer as a share of all; 1 for an answer too short to have two. */
export function distinctTrigrams(ids: readonly number[]): number {
  const trigrams = ids.slice(2).map((id, at) => `${ids[at]} ${ids[at + 1]} ${id}`)
  return trigrams.length === 0 ? 1 : new Set(trigrams).size / trigrams.length
}

/** Returns the length in tokens of the longest ending of an answer that also occurs earlier in it. The two may overlap. */
export function repeatedEnding(ids: readonly number[]): number {
  const last = ids.length - 1
  const lengthAt = (end: number) => {
    let length = 0
    while (length <= end && ids[end - length] === ids[last - length]) length++
    return length
  }
  return Math.max(0, ...Array.from({ length: Math.max(0, last) }, (_, end) => lengthAt(end)))
}

/** Returns the share of the longer answer's positions at which both answers have the same token; 1 if both are empty. */
export function equalTokens(ids: readonly number[], other: readonly number[]): number {
  const length = Math.max(ids.length, other.length)
  return length === 0 ? 1 : ids.filter((id, at) => other[at] === id).length / length
}
