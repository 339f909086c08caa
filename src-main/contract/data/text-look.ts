import { z } from 'zod'

/** A preview of a text: its windows (`more` if not all were counted), how it begins, and how much of it also occurs in another text. */
export const textLook = z.object({
  windows: z.number().int().nonnegative(),
  more: z.boolean(),
  sequenceLength: z.number().int().positive(),
  beginning: z.string(),
  /** Share of its passages, 0 to 1, that also occur in the reference text; null if none was given. */
  overlap: z.number().min(0).max(1).nullable(),
})

export type TextLook = z.infer<typeof textLook>
