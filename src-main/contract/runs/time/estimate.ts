import { z } from 'zod'
import { id } from '../../identifiers.ts'

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
   * Shares of the operations in attention, MLPs and head that use faster products than float32's, on machines that have them. `auto` stands
   * for products that precision `auto` uses on only some of these machines.
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
