import { z } from 'zod'
import { id } from '../../identifiers.ts'

/**
 * Work of one phase of a run in the units that machines are timed by: billions of operations (a multiplication or an addition) in
 * attention, MLPs and head, in float64, and for eigenvectors; how often rows pass a part; gigabytes of weights read by token-by-token
 * generation; and fixed seconds.
 */
const phaseWork = z.object({
  /** The phase's name in progress messages. */
  phase: z.string(),
  /** Its name in the seconds of a finished run. */
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
   * Shares of the operations in attention, MLPs and head that use faster products than float32's, on machines that have them. `auto` is for
   * products that precision `auto` takes only on some of these.
   */
  faster: z.array(z.object({ products: z.enum(['thirds', 'split', 'bfloat16', 'auto']), share: z.number() })).optional(),
  /** Runs of one experiment and model with the same name do this once; the longest counts. */
  shared: z.string().optional(),
})

/** A run's phases in order. `hidden` is the model's width, which affects a machine's speed. */
export const work = z.object({ hidden: z.number().int(), phases: z.array(phaseWork) })

const timedPhase = phaseWork.pick({ phase: true, part: true, seconds: true, shared: true })

/** Range of a duration and its likeliest value. */
export const secondsRange = z.object({ low: z.number(), likely: z.number(), high: z.number() })

/** Basis of an estimate: rates of this machine alone, or finished runs of this model as well. */
export const estimateBasis = z.enum(['machine', 'runs'])

export const runEstimate = z.object({ run: id, phases: z.array(timedPhase), seconds: secondsRange, basis: estimateBasis })

/** Of a run that will not be computed: why. */
export const noEstimate = z.object({ run: id, problem: z.string() })

export type PhaseWork = z.infer<typeof phaseWork>
export type Work = z.infer<typeof work>
export type TimedPhase = z.infer<typeof timedPhase>
export type SecondsRange = z.infer<typeof secondsRange>
export type RunEstimate = z.infer<typeof runEstimate>
export type NoEstimate = z.infer<typeof noEstimate>
