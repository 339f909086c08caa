import { z } from 'zod'
import { usedData } from '../data/used-data.ts'
import type { MethodId } from '../titles.ts'
import { replaceable } from './plan.ts'

/** All projections from one pass of the dense model, or one after the other on what the repaired model has come to. */
export const repairKind = z.enum(['one-pass', 'in-order'])

/** The repair that a method is meant for: done unless another, or none, is asked for. */
export function usualRepair(method: string): z.infer<typeof repairKind> | undefined {
  return method === ('2ssp_fit' satisfies MethodId) ? 'in-order' : undefined
}

/**
 * One projection of a repaired plan: the ridge, as a share of the mean diagonal of its Gram matrix, and the squared error on held-out
 * windows as a share of what its outputs should be, before and after. Where it did not fall, the old weights stayed.
 */
export const repairedProjection = z.object({
  block: z.number().int().nonnegative(),
  projection: replaceable,
  ridge: z.number(),
  before: z.number(),
  after: z.number(),
})

/** What a repair did: the text it was fitted on, the time it took, and every projection that it looked at. */
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
