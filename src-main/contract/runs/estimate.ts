import { z } from 'zod'
import { id } from '../identifiers.ts'

/**
 * What a phase of a run has to do, in what machines are timed by: thousand millions of operations (a multiplication or an addition) of
 * attention, MLPs and head, in float64, and for eigenvectors; how often some rows pass a part; gigabytes of weights that tokens made one
 * by one read; and seconds that no rate changes.
 */
export const phaseWork = z.object({
  /** As progress names it. */
  phase: z.string(),
  /** As the seconds of a finished run name it. */
  part: z.string(),
  attention: z.number(),
  mlp: z.number(),
  head: z.number(),
  double: z.number(),
  vectors: z.number(),
  calls: z.number(),
  decoded: z.number(),
  seconds: z.number(),
  /** Shares of the operations of attention, MLPs and head that are done by other products than float32's, where a machine has them. */
  faster: z.array(z.object({ products: z.enum(['split', 'bfloat16']), share: z.number() })).optional(),
  /** Runs of one experiment on one model that name the same do it once, the longest of them. */
  shared: z.string().optional(),
})

/** The work of a run, in order. `hidden` is the model's width, by which machines are faster or slower. */
export const work = z.object({ hidden: z.number().int(), phases: z.array(phaseWork) })

export const timedPhase = phaseWork.pick({ phase: true, part: true, seconds: true, shared: true })

/** Between which seconds the time lies, and which are most likely. */
export const secondsRange = z.object({ low: z.number(), likely: z.number(), high: z.number() })

/** What seconds were worked out from: rates of this machine alone, or finished runs of this model as well. */
export const estimateBasis = z.enum(['machine', 'runs'])

export const runEstimate = z.object({ run: id, phases: z.array(timedPhase), seconds: secondsRange, basis: estimateBasis })

export type PhaseWork = z.infer<typeof phaseWork>
export type Work = z.infer<typeof work>
export type TimedPhase = z.infer<typeof timedPhase>
export type SecondsRange = z.infer<typeof secondsRange>
export type RunEstimate = z.infer<typeof runEstimate>
