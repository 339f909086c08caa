import { diffArrays } from 'diff'

/** Answers that differ in more tokens than this are compared only up to the first difference, because the time grows with the number. */
const furthest = 4000

/** Says for each token of `answer` whether the reference has it too, in the same order (longest common subsequence). */
export function sharedTokens(reference: readonly string[], answer: readonly string[]): boolean[] {
  const parts = diffArrays([...reference], [...answer], { maxEditLength: furthest })
  if (!parts) {
    const end = answer.findIndex((token, at) => token !== reference[at])
    return answer.map((_, at) => end < 0 || at < end)
  }
  return parts.filter(({ removed }) => !removed).flatMap(({ added, value }) => value.map(() => !added))
}

/** Share of the answer's tokens that the reference has too. */
export function sharedShare(shared: readonly boolean[]): number {
  return shared.length === 0 ? 1 : shared.filter(Boolean).length / shared.length
}
