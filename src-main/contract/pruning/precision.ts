import { z } from 'zod'

/**
 * How products are computed. `float32`: throughout. `mixed`: a search ranks candidates with bfloat16 products and rescores, with float32
 * accuracy, every candidate that could still win, so it makes the same choices as float32. `bfloat16`: throughout, fast and rough. `auto`
 * uses `mixed` if the backend is fast at 16-bit products.
 */
export const precisionName = z.enum(['float32', 'auto', 'mixed', 'bfloat16'])

export type PrecisionName = z.infer<typeof precisionName>

export const precisionTitles: Record<PrecisionName, string> = {
  float32: 'float32',
  auto: 'Mixed if supported',
  mixed: 'Mixed, choices checked in float32',
  bfloat16: 'bfloat16 (rough)',
}

/** The precision that a run used. */
export const precision = z.enum(['float32', 'mixed', 'bfloat16'])

/** How a `mixed` run was certified: the number of choices (`rounds`), of candidates, and of candidates rescored with float32 accuracy. */
export const certified = z.object({
  rounds: z.number().int().nonnegative(),
  candidates: z.number().int().nonnegative(),
  rescored: z.number().int().nonnegative(),
})

export type Precision = z.infer<typeof precision>
