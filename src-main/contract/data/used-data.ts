import { z } from 'zod'

/**
 * Windows of token ids as a run used them. `source` is the requested path or data set name; `revision` is the commit of the hub's file,
 * null for local data; `windows` is how many were used, each of `sequenceLength` tokens (the longest, if they differ). `seed` 0 means the
 * text's own order. `hash` is the SHA-256 of all ids as little-endian 32-bit numbers, window after window.
 */
const usedSource = z.object({
  source: z.string(),
  revision: z.string().nullable(),
  sequenceLength: z.number().int().positive(),
  windows: z.number().int().positive(),
  seed: z.number().int().nonnegative(),
  hash: z.string(),
})

/** Windows of one source, or of several mixed; `parts` lists what each contributed. */
export const usedData = usedSource.extend({ parts: z.array(usedSource).optional() })

export type UsedData = z.infer<typeof usedData>
