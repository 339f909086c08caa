import { z } from 'zod'
import { precisionNames } from './precision-names.ts'

/**
 * How products are computed. `float32` throughout; `mixed`: candidates of a search are ranked by products of bfloat16 operands, and all
 * that could win is scored again with float32's accuracy, so that choices are float32's; `bfloat16` throughout, for a first look. `auto` takes `mixed`
 * where the processor has units for it.
 */
export const precisionName = z.enum(precisionNames)

/** What a run was computed in. */
export const precision = z.enum(['float32', 'mixed', 'bfloat16'])

/** What certifies the choices of a `mixed` run: how many there were, among how many candidates, how many of those were scored again with float32's accuracy. */
export const certified = z.object({
  rounds: z.number().int().nonnegative(),
  candidates: z.number().int().nonnegative(),
  rescored: z.number().int().nonnegative(),
})

export type PrecisionName = z.infer<typeof precisionName>
export type Precision = z.infer<typeof precision>
export type Certified = z.infer<typeof certified>
