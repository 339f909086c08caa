/** Label of the seconds that other runs spent on steps that this run reused. */
export const sharedPhase = 'done by other runs'

/** The measure that holds the cost of pruning. */
export const pruningTime = 'pruning time'

/** Returns the full cost of pruning: the run's own seconds plus those of the steps that it reused. */
export function pruningSeconds(seconds: Readonly<Record<string, number>>): number | null {
  const { pruning, [sharedPhase]: shared = 0 } = seconds
  return pruning === undefined ? null : pruning + shared
}
