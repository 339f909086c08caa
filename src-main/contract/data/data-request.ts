import { z } from 'zod'
import { readPlace } from '../places.ts'

/** Windows of tokens: their source (a file, a folder or a named data set), their length, and the largest number to use. */
export const dataRequest = z.object({
  source: readPlace,
  sequenceLength: z.number().int().min(2),
  windows: z.number().int().positive().optional(),
  /** Several sources with their shares. If set, `source` is only a name for the mix. */
  mix: z
    .array(z.object({ source: readPlace, share: z.number().positive() }))
    .min(2)
    .max(20)
    .optional(),
})

export type DataRequest = z.infer<typeof dataRequest>
