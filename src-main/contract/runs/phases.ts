/** The phase of a run's seconds that other runs spent, on steps that it found done. */
export const sharedPhase = 'done by other runs'

/** The measure that says what pruning costs. */
export const pruningTime = 'pruning time'

/** What pruning costs by itself: the run's own seconds and those of the steps that it found done. */
export function pruningSeconds(seconds: Readonly<Record<string, number>>): number | null {
  const { pruning, [sharedPhase]: shared = 0 } = seconds
  return pruning === undefined ? null : pruning + shared
}
