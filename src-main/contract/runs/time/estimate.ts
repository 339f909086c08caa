import { z } from 'zod'
import { id } from '../../identifiers.ts'
import { openPart, type Progress } from './progress.ts'

/**
 * Work of one phase of a run, in the units that machines are timed in. `attention`, `mlp`, `head`, `double` (float64), `vectors`
 * (eigenvectors) and `solved` (equations in float64) are billions of operations, where an operation is a multiplication or an addition.
 * `calls` counts how often rows pass a part, `decoded` is gigabytes of weights read by token-by-token generation, `stored` is millions of
 * values that take as long to quantise to Q4_K, and `seconds` are fixed.
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
  solved: z.number(),
  calls: z.number(),
  decoded: z.number(),
  stored: z.number(),
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

/**
 * A phase's own rate counts fully once this share of the phase, or this many seconds of it, have been seen. The first samples are slow:
 * weights are unpacked, and a busy machine has yet to give the process its turns.
 */
const [ratedShare, ratedSeconds] = [0.5, 120]

/** A phase of this many seconds predicts half of how far later phases deviate; a shorter one says less, a longer one more. */
const tellingSeconds = 10

/** How many times as long as estimated later phases may be assumed to take, or as short. */
const mostDeviation = 4

type Estimated = Pick<RunEstimate, 'phases'>

/**
 * Returns the seconds until a run ends: the current phase by its own rate as far as that counts, and the later phases scaled by how far
 * the run deviates from its estimate. Without progress, it returns the whole estimate.
 * @param earlier the last progress of each earlier phase
 */
export function secondsLeft(progress: Progress | null, estimate: Estimated, earlier: readonly Progress[] = []): number {
  const { phases } = estimate
  const sum = (some: readonly TimedPhase[]) => some.reduce((total, { seconds }) => total + seconds, 0)
  if (!progress || progress.total <= 0) return sum(phases)
  const begun = Math.max(-1, ...earlier.map((one) => phases.findIndex(({ phase }) => phase === one.phase)))
  // A run may have several phases of one name, such as those that read a text: this is the first that had not begun.
  const next = phases.findIndex(({ phase }, index) => index > begun && phase === progress.phase)
  const at = next >= 0 ? next : phases.findLastIndex(({ phase }) => phase === progress.phase)
  // A phase without an estimate, such as a download, is followed by those that have not begun.
  if (at < 0) return (progress.secondsLeft ?? 0) + deviation(null, estimate, earlier) * sum(phases.slice(begun + 1))
  const { seconds } = phases[at] as TimedPhase
  const later = deviation(progress, estimate, earlier) * sum(phases.slice(at + 1))
  // A phase whose length is unknown beforehand has no estimate to deviate from.
  if (seconds <= 0) return (progress.secondsLeft ?? 0) + later
  const { ratio, seen } = paceOf(progress, seconds)
  const pace = deviation(null, estimate, earlier) ** (1 - seen) * ratio ** seen
  return (1 - progress.done / progress.total) * seconds * pace + later
}

/**
 * Returns how many times as long as estimated a run takes, by its current phase and the phases before it, limited to between a quarter and
 * four. Later phases, and runs that wait, are assumed to deviate by the same factor.
 * @param earlier the last progress of each earlier phase
 */
export function deviation(progress: Progress | null, { phases }: Estimated, earlier: readonly Progress[] = []): number {
  const factor = [...earlier, ...(progress ? [progress] : [])].reduce((before, one) => {
    const { seconds = 0, part = openPart } = phases.find(({ phase }) => phase === one.phase) ?? {}
    if (part === openPart || seconds <= 0) return before
    const { ratio, seen, ratedFor } = paceOf(one, seconds)
    const weight = (seen * ratedFor) / (ratedFor + tellingSeconds)
    return before ** (1 - weight) * ratio ** weight
  }, 1)
  return Math.min(mostDeviation, Math.max(1 / mostDeviation, factor))
}

/** How many times as long as estimated a phase takes at its own rate, and how much that counts, from 0 to 1. */
function paceOf({ total, perSecond = 0, ratedFor = 0 }: Progress, seconds: number) {
  if (total <= 0 || perSecond <= 0 || ratedFor <= 0) return { ratio: 1, seen: 0, ratedFor: 0 }
  const seen = Math.min(1, Math.max((perSecond * ratedFor) / total / ratedShare, ratedFor / ratedSeconds))
  return { ratio: total / perSecond / seconds, seen, ratedFor }
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
