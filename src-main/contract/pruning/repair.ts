import { z } from 'zod'
import { usedData } from '../data/used-data.ts'
import { replaceable } from './plan.ts'

/**
 * `one-pass` fits all projections to a single pass of the dense model. `in-order` goes through the model block by block, and fits each
 * projection on the model as repaired so far.
 */
export const repairKind = z.enum(['one-pass', 'in-order'])

/**
 * One projection of a repaired plan: the ridge as a share of the mean diagonal of its Gram matrix, and the squared error on held-out
 * windows relative to the target outputs, before and after. If the error did not fall, the old weights are kept. For a mixture, the errors
 * are of all experts together, and the ridge is the most frequent one. `experts` counts those that were replaced, those with enough tokens
 * to be fitted, and all.
 */
const repairedProjection = z.object({
  block: z.number().int().nonnegative(),
  projection: replaceable,
  ridge: z.number(),
  before: z.number(),
  after: z.number(),
  experts: z.object({ replaced: z.number().int(), fitted: z.number().int(), all: z.number().int() }).optional(),
})

/** A repair's record: the text it was fitted on, its duration, and every projection it considered. */
export const repair = z.object({
  kind: repairKind,
  windows: z.number().int().positive(),
  seconds: z.number(),
  calibration: usedData,
  blocks: z.array(repairedProjection),
})

export type RepairKind = z.infer<typeof repairKind>
export type RepairedProjection = z.infer<typeof repairedProjection>
export type Repair = z.infer<typeof repair>
