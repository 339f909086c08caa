import { z } from 'zod'

/** The languages of the declarations in the bundled mixed text. */
export const languages = [
  'Arabic',
  'Chinese',
  'Czech',
  'Dutch',
  'Finnish',
  'French',
  'German',
  'Greek',
  'Hindi',
  'Hungarian',
  'Indonesian',
  'Italian',
  'Japanese',
  'Korean',
  'Polish',
  'Portuguese',
  'Romanian',
  'Russian',
  'Spanish',
  'Swahili',
  'Swedish',
  'Turkish',
  'Ukrainian',
  'Vietnamese',
] as const

/** A word with how often it occurs, and its bits in total. */
const dearerWord = z.object({ word: z.string(), count: z.number().int(), before: z.number(), after: z.number() })

/**
 * What other numbers of rows of the vocabulary would keep. `texts` are the one that ranked the rows, and a declaration in each language.
 * Each of `points` is a number of rows, with the bytes of the model as it is stored, and the share of each text's tokens among these rows.
 * `samples` are beginnings of these texts, with the ends of their tokens at each point, in UTF-16 units. Tokens that are parts of a character
 * end where it does.
 */
export const tokenRanking = z.object({
  texts: z.array(z.object({ name: z.string(), tokens: z.number().int().nonnegative() })),
  points: z.array(z.object({ rows: z.number().int(), bytes: z.number(), covered: z.array(z.number()) })),
  /** The words of a measured text that rose most in total bits, with their bits before and after. */
  dearer: z.object({ text: z.string(), words: z.array(dearerWord) }).optional(),
  samples: z.array(z.object({ text: z.string(), ends: z.array(z.array(z.number().int())) })),
})

export type DearerWord = z.infer<typeof dearerWord>
export type TokenRanking = z.infer<typeof tokenRanking>
