import { z } from 'zod'
import { call } from '../call.ts'
import { id, name } from '../identifiers.ts'
import { dataRequest } from './data-request.ts'

/** A preview of text: its number of windows (`more` if not all were counted), its beginning, and how much of it also occurs elsewhere. */
export const textLook = z.object({
  windows: z.number().int().nonnegative(),
  more: z.boolean(),
  sequenceLength: z.number().int().positive(),
  beginning: z.string(),
  /** Documents, or passages of a single one, in the part that was asked for; null if the whole text was. */
  part: z.object({ count: z.number().int().nonnegative(), byPassage: z.boolean() }).nullable(),
  /** The share of its passages, 0 to 1, that also occur in the other text of the request; null if there is none. */
  overlap: z.number().min(0).max(1).nullable(),
})

export type TextLook = z.infer<typeof textLook>

export const dataCalls = {
  'texts.look': call(
    'How many windows of text a data source has for a model, how it begins, and how much of it also occurs in another one.',
    z.object({ model: id, data: dataRequest, against: dataRequest.optional() }),
    textLook,
    'not-found',
  ),
  'texts.upload': call(
    'Store a text file from a browser. Returns its path on this machine, for data requests.',
    z.object({
      name: name.regex(/\.(txt|md|jsonl|json)$/i, 'The name must end in .txt, .md, .jsonl or .json.'),
      content: z.string().max(60_000_000),
    }),
    z.object({ path: z.string() }),
    'disk',
  ),
}
