import { z } from 'zod'

/**
 * Windows of token ids as a run used them. `source` is what was asked for, a path or a data set's name; `revision` the commit of the hub's
 * file, null for what lay on this machine; `windows` how many were used, each of `sequenceLength` tokens (the longest, where they differ).
 * `seed` 0 means the text's own order. `hash` is the SHA-256 of all their ids, as little-endian 32-bit numbers one window after the other.
 */
const usedSource = z.object({
  source: z.string(),
  revision: z.string().nullable(),
  sequenceLength: z.number().int().positive(),
  windows: z.number().int().positive(),
  seed: z.number().int().nonnegative(),
  hash: z.string(),
})

/** Windows of one source, or of several mixed: `parts` says what each gave. */
export const usedData = usedSource.extend({ parts: z.array(usedSource).optional() })

export type UsedData = z.infer<typeof usedData>
