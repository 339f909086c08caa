import { z } from 'zod'

/** What a text would give a run: windows (`more` when there are more than were counted), how it begins, and how much of it stands in another. */
export const textLook = z.object({
  windows: z.number().int().nonnegative(),
  more: z.boolean(),
  sequenceLength: z.number().int().positive(),
  beginning: z.string(),
  /** The share of its passages that the text it was held against holds too, 0 to 1; null where none was given. */
  overlap: z.number().min(0).max(1).nullable(),
})

export type TextLook = z.infer<typeof textLook>
