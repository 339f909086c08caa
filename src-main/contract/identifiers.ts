import { z } from 'zod'
import { shownName } from './words.ts'

/** Identifier of an item in the history. It is safe as a file name. */
export const id = z.string().regex(/^[a-z0-9][a-z0-9-]{2,63}$/, 'An id has 3 to 64 lower-case letters, digits and dashes.')
export const ids = z.array(id).min(1).max(10_000)

/** Milliseconds since 1970. */
export const moment = z.number().int()
export const name = z.string().overwrite(shownName).trim().min(1).max(200)
export const notes = z.string().max(100_000)
/** The notes that an edit started from. If they were changed since, the edit is refused with `conflict` and the current notes. */
export const notesBefore = notes.optional()
const tag = z.string().overwrite(shownName).trim().min(1).max(60)
export const tags = z.array(tag).max(50)

export const offset = z.number().int().nonnegative().default(0)
export const limit = z.number().int().positive().max(1000).default(100)

/** A text file for the caller to save. */
export const textFile = z.object({ fileName: z.string(), type: z.string(), content: z.string() })
/** Whether a document keeps the paths of this machine. If false, each becomes the name of its file or folder. */
export const paths = z.boolean().default(false)
export const nothing = z.object({})

export type TextFile = z.infer<typeof textFile>
