import { z } from 'zod'

/**
 * How windows of a text begin: as in the 2SSP reference, which adds no begin token (`reference`); with the model's begin token (`always`);
 * or with it if the model predicts a few windows clearly better that way (`auto`).
 */
export const beginChoice = z.enum(['reference', 'always', 'auto'])

/** Perplexities of the same tokens in `windows` windows of `sequenceLength` tokens, `without` a begin token and `with` it. */
export const beginFigures = z.object({
  without: z.number(),
  with: z.number(),
  windows: z.number().int().positive(),
  sequenceLength: z.number().int().positive(),
})

/** How the windows of a run began: the request, the token (null if the model has none), and the figures that `auto` decided by. */
export const usedBegin = z.object({
  asked: beginChoice,
  begins: z.boolean(),
  token: z.string().nullable(),
  figures: beginFigures.optional(),
})

export type BeginChoice = z.infer<typeof beginChoice>
export type BeginFigures = z.infer<typeof beginFigures>
export type UsedBegin = z.infer<typeof usedBegin>

export const beginTitles: Record<BeginChoice, string> = {
  auto: 'Automatic: if the model predicts text better with it',
  always: 'Always',
  reference: 'Never, as in the 2SSP reference',
}

/** The share of a perplexity that a begin token must save for `auto` to use it. */
const clearShare = 0.1

/** Whether a model needs its begin token. */
export const lowersClearly = (figures: Pick<BeginFigures, 'without' | 'with'>): boolean => figures.with < (1 - clearShare) * figures.without

/** Whether a model is clearly worse with its begin token. */
export const raisesClearly = (figures: Pick<BeginFigures, 'without' | 'with'>): boolean => figures.without < (1 - clearShare) * figures.with

/** Both perplexities in words. */
export const figuresText = ({ without, with: begun }: Pick<BeginFigures, 'without' | 'with'>): string =>
  `perplexity ${begun.toPrecision(4)} with it, ${without.toPrecision(4)} without`

/** A sentence on how the windows of a run began. */
export function beginText({ asked, begins, token, figures }: UsedBegin): string {
  if (token === null) return 'Windows begin without a begin token: the tokenizer has none.'
  const how = begins ? `Each window begins with ${token}` : `Windows begin without ${token}`
  if (figures) return `${how}: ${figuresText(figures)}.`
  return asked === 'reference' ? `${how}, as in the 2SSP reference.` : `${how}, as requested.`
}
