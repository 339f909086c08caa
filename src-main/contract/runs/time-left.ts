import type { RunEstimate, SecondsRange, TimedPhase } from './estimate.ts'
import type { Progress } from './progress.ts'

/** How far a phase has to be before its own rate says more than what was estimated. */
const tellingShare = 0.05

/**
 * Seconds until a run ends: what its phase has left by its own rate, and the phases behind it as estimated, as much longer or shorter as
 * this one turned out to be. Without progress all of it is left.
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

/** A range around what is left, as wide in relation to it as that of the whole. */
export function rangeLeft(left: number, { low, likely, high }: SecondsRange): SecondsRange {
  if (likely === 0) return { low: left, likely: left, high: left }
  return { low: (left * low) / likely, likely: left, high: (left * high) / likely }
}

/** Several, one after the other. */
export function addRanges(ranges: readonly SecondsRange[]): SecondsRange {
  const sum = (key: keyof SecondsRange) => ranges.reduce((total, range) => total + range[key], 0)
  return { low: sum('low'), likely: sum('likely'), high: sum('high') }
}
