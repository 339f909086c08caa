import { z } from 'zod'
import { plural } from '../words.ts'
import { type TextSplit, textSplit } from './data-request.ts'

/**
 * Windows of token ids as a run used them. `source` is the requested path or data set name; `revision` is the commit of the hub's file,
 * null for local data; `windows` is how many were used, each of `sequenceLength` tokens (the longest, if they differ). `seed` 0 means the
 * text's own order. `hash` is the SHA-256 of all ids as little-endian 32-bit numbers, window after window. `beginToken` is true if each
 * window begins with the model's BOS, which counts as one of its tokens and is no target. `split` is set if only a part of the text was read.
 * `documents` is then how many it has, or `passages` if the text is one document. `tokens` is set if all of the text was read and counted;
 * `hash` is then that of the text, and `windows` is how many it would fill.
 */
const usedSource = z.object({
  source: z.string(),
  revision: z.string().nullable(),
  sequenceLength: z.number().int().positive(),
  windows: z.number().int().positive(),
  seed: z.number().int().nonnegative(),
  hash: z.string(),
  beginToken: z.boolean().optional(),
  split: textSplit.optional(),
  documents: z.number().int().positive().optional(),
  passages: z.number().int().positive().optional(),
  tokens: z.number().int().positive().optional(),
})

/** Windows of one source, or of several mixed; `parts` lists what each contributed. */
export const usedData = usedSource.extend({ parts: z.array(usedSource).optional() })

/** Which part of a text was read: `the part for choices`. */
export const partText = ({ part }: TextSplit): string => (part === 'choosing' ? 'the part for choices' : 'the part kept to decide')

/** `1 window of 1,024 tokens`. */
export const windowsText = (windows: number, sequenceLength: number): string =>
  `${plural(windows, 'window')} of ${sequenceLength.toLocaleString('en')} tokens`

export type UsedData = z.infer<typeof usedData>
