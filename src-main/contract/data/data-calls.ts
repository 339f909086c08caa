import { z } from 'zod'
import { call } from '../call.ts'
import { id, name } from '../identifiers.ts'
import { dataRequest } from './data-request.ts'
import { textLook } from './text-look.ts'

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
