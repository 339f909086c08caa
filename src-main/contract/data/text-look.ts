import { z } from 'zod'

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
