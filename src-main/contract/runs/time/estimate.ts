import { z } from 'zod'
import { id } from '../../identifiers.ts'
import type { Progress } from './progress.ts'

/** The part of a run that reads the model. Its rate is not applied to later parts, because it says nothing of how fast the machine computes. */
export const openPart = 'open'

/**
 * Work of one phase of a run, in the units that machines are timed in. `attention`, `mlp`, `head`, `double` (float64) and `vectors`
 * (eigenvectors) are billions of operations, where an operation is a multiplication or an addition. `calls` counts how often rows pass a
 * part, `decoded` is gigabytes of weights read by token-by-token generation, and `seconds` are fixed.
 */
const phaseWork = z.object({
  /** The phase's name in progress messages. */
  phase: z.string(),
  /** The phase's name in the seconds of a finished run. */
  part: z.string(),
  attention: z.number(),
  mlp: z.number(),
  head: z.number(),
  double: z.number(),
  vectors: z.number(),
  calls: z.number(),
  decoded: z.number(),
  seconds: z.number(),
  /**
   * Shares of the operations in attention, MLPs and head that use faster products than float32's, on machines that have them. The products
   * are those of `engine/tensor/products.ts`; `auto` means those that precision `auto` uses on only some of these machines.
   */
  faster: z.array(z.object({ products: z.enum(['thirds', 'split', 'bfloat16', 'auto']), share: z.number() })).optional(),
  /** Runs of one experiment and model do phases with the same `shared` name only once. The longest counts. */
  shared: z.string().optional(),
})

/** A run's phases in order. `hidden` is the model's width, which affects a machine's speed. */
export const work = z.object({ hidden: z.number().int(), phases: z.array(phaseWork) })

const timedPhase = phaseWork.pick({ phase: true, part: true, seconds: true, shared: true })

/** The range of a duration, with its likeliest value. */
export const secondsRange = z.object({ low: z.number(), likely: z.number(), high: z.number() })

/** Basis of an estimate: rates of this machine alone, or finished runs of this model as well. */
export const estimateBasis = z.enum(['machine', 'runs'])

export const runEstimate = z.object({ run: id, phases: z.array(timedPhase), seconds: secondsRange, basis: estimateBasis })

/** Why a run will not be computed. */
export const noEstimate = z.object({ run: id, problem: z.string() })

export type PhaseWork = z.infer<typeof phaseWork>
export type Work = z.infer<typeof work>
export type TimedPhase = z.infer<typeof timedPhase>
export type SecondsRange = z.infer<typeof secondsRange>
export type RunEstimate = z.infer<typeof runEstimate>
export type NoEstimate = z.infer<typeof noEstimate>

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
  const { seconds, part } = phases.find(({ phase }) => phase === progress?.phase) ?? {}
  if (part === openPart) return 1
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
