import { z } from 'zod'
import { readPlace } from '../places.ts'

/**
 * One part of a text: the part that choices are based on (calibration, repair, recovery), or a fifth of the documents, which decides what a
 * model is worth and which no choice reads. The seed draws the documents, so all runs with one seed have the same parts.
 */
export const textSplit = z.object({ part: z.enum(['choosing', 'deciding']), seed: z.number().int().nonnegative() })

/** Windows of tokens: their source (a file, a folder or a named data set), their length, and the largest number to use. */
export const dataRequest = z.object({
  source: readPlace,
  sequenceLength: z.number().int().min(2),
  windows: z.number().int().positive().optional(),
  split: textSplit.optional(),
  /** Several sources with their shares. If set, `source` is only a name for the mix. */
  mix: z
    .array(z.object({ source: readPlace, share: z.number().positive(), split: textSplit.optional() }))
    .min(2)
    .max(20)
    .optional(),
})

export type TextSplit = z.infer<typeof textSplit>
export type DataRequest = z.infer<typeof dataRequest>
