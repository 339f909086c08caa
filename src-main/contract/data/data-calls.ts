import { z } from 'zod'
import { call } from '../call.ts'
import { id, name } from '../identifiers.ts'
import { dataRequest } from './data-request.ts'
import { textLook } from './text-look.ts'

export const dataCalls = {
  'texts.look': call(
    'How many windows a text gives a model, how it begins, and how much of it also occurs in another text.',
    z.object({ model: id, data: dataRequest, against: dataRequest.optional() }),
    textLook,
    'not-found',
  ),
  'texts.upload': call(
    'Store a text from a browser; returns its path on this machine for data requests.',
    z.object({
      name: name.regex(/\.(txt|md|jsonl|json)$/i, 'A text ends in .txt, .md, .jsonl or .json.'),
      content: z.string().max(60_000_000),
    }),
    z.object({ path: z.string() }),
    'disk',
  ),
}
