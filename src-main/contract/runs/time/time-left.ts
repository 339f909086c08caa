import type { RunEstimate, SecondsRange, TimedPhase } from './estimate.ts'
import type { Progress } from './progress.ts'

/** Progress that a phase needs before its own rate replaces the estimate. */
const tellingShare = 0.05

/**
 * Seconds until a run ends: the current phase at its own rate, and the later phases as estimated, scaled by how far this phase deviates
 * from its estimate. Without progress, the whole estimate.
 */
export function secondsLeft(progress: Progress | null, { phases }: Pick<RunEstimate, 'phases'>): number {
  const at = progress ? phases.findIndex(({ phase }) => phase === progress.phase) : -1
  const sum = (some: readonly TimedPhase[]) => some.reduce((total, { seconds }) => total + seconds, 0)
  if (!progress || progress.total <= 0) return sum(phases)
  if (at < 0) return progress.secondsLeft ?? 0
  const { seconds } = phases[at] as TimedPhase
  const share = progress.done / progress.total
  const behind = sum(phases.slice(at + 1))
  if (progress.perSecond === undefined || progress.secondsLeft === undefined || share < tellingShare) return (1 - share) * seconds + behind
  const whole = progress.total / progress.perSecond
  const longer = seconds > 0 ? Math.min(4, Math.max(0.25, whole / seconds)) : 1
  return progress.secondsLeft + longer * behind
}

/** A range around the remaining time, with the same relative width as the whole estimate's. */
export function rangeLeft(left: number, { low, likely, high }: SecondsRange): SecondsRange {
  if (likely === 0) return { low: left, likely: left, high: left }
  return { low: (left * low) / likely, likely: left, high: (left * high) / likely }
}

/** Adds the ranges of runs in sequence. */
export function addRanges(ranges: readonly SecondsRange[]): SecondsRange {
  const sum = (key: keyof SecondsRange) => ranges.reduce((total, range) => total + range[key], 0)
  return { low: sum('low'), likely: sum('likely'), high: sum('high') }
}
