import type { RunEstimate, SecondsRange, TimedPhase } from './estimate.ts'
import type { Progress } from './progress.ts'

/** The share of a phase that must be done before its own rate replaces the estimate. */
const ratedShare = 0.05

/**
 * Returns the seconds until a run ends: the current phase at its own rate, and the later phases as estimated, scaled by how far this phase
 * deviates from its estimate. Without progress, it returns the whole estimate.
 */
export function secondsLeft(progress: Progress | null, { phases }: Pick<RunEstimate, 'phases'>): number {
  const at = progress ? phases.findIndex(({ phase }) => phase === progress.phase) : -1
  const sum = (some: readonly TimedPhase[]) => some.reduce((total, { seconds }) => total + seconds, 0)
  if (!progress || progress.total <= 0) return sum(phases)
  if (at < 0) return progress.secondsLeft ?? 0
  const { seconds } = phases[at] as TimedPhase
  const later = sum(phases.slice(at + 1))
  const longer = deviation(progress, { phases })
  if (longer === undefined) return (1 - progress.done / progress.total) * seconds + later
  return (progress.secondsLeft ?? 0) + longer * later
}

/**
 * Returns how many times as long as estimated the current phase of a run takes, limited to between a quarter and four. Undefined until
 * enough of the phase is done. Later phases, and runs that wait, are assumed to deviate by the same factor.
 */
export function deviation(progress: Progress | null, { phases }: Pick<RunEstimate, 'phases'>): number | undefined {
  const seconds = phases.find(({ phase }) => phase === progress?.phase)?.seconds
  if (!progress || seconds === undefined || progress.perSecond === undefined || progress.secondsLeft === undefined) return undefined
  if (progress.total <= 0 || progress.done / progress.total < ratedShare) return undefined
  return seconds > 0 ? Math.min(4, Math.max(0.25, progress.total / progress.perSecond / seconds)) : 1
}

/** Returns a range around the remaining time, with the same relative width as that of the whole estimate. */
export function rangeLeft(left: number, { low, likely, high }: SecondsRange): SecondsRange {
  if (likely === 0) return { low: left, likely: left, high: left }
  return { low: (left * low) / likely, likely: left, high: (left * high) / likely }
}

/** Adds the ranges of runs in sequence. */
export function addRanges(ranges: readonly SecondsRange[]): SecondsRange {
  const sum = (key: keyof SecondsRange) => ranges.reduce((total, range) => total + range[key], 0)
  return { low: sum('low'), likely: sum('likely'), high: sum('high') }
}
