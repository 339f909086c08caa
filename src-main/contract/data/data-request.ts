import { z } from 'zod'
import { readPlace } from '../places.ts'

/** Where token windows come from (a file, a folder or a named data set), how long a window is, and how many are used at most. */
export const dataRequest = z.object({
  source: readPlace,
  sequenceLength: z.number().int().min(2),
  windows: z.number().int().positive().optional(),
  /** Several sources with their shares. When set, `source` is only their name. */
  mix: z
    .array(z.object({ source: readPlace, share: z.number().positive() }))
    .min(2)
    .max(20)
    .optional(),
})

export type DataRequest = z.infer<typeof dataRequest>
