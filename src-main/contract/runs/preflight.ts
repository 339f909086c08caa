import { z } from 'zod'
import { errorCodes } from '../errors.ts'
import { formatOutline } from '../exports/exports.ts'
import { hubFile } from '../models/hub-file.ts'
import { work } from './estimate.ts'

/** Why a request cannot be done: which field of it, and a sentence for people. */
export const problem = z.object({ code: z.enum(errorCodes), field: z.string(), message: z.string() })

/** What a budget comes to before anything is computed: how much of each kind goes, and the share of the stack that it reaches. */
export const outline = z.object({
  attentionRemoved: z.number().int().nullable(),
  blocksRemoved: z.number().int().nullable(),
  neuronsRemovedPerBlock: z.number().int().nullable(),
  reached: z.number().nullable(),
})

/** What the engine says of a request without reading weights: `fetches` are files that the run would have to download. */
export const requestPreview = outline.extend({
  problems: z.array(problem),
  notes: z.array(z.string()),
  /** What the result would weigh in each format. */
  formats: z.array(formatOutline),
  fetches: z.array(z.object({ field: z.string(), file: hubFile, advice: z.string() })),
  feasibleRange: z.object({ minimum: z.number(), maximum: z.number() }).nullable(),
  memoryBytes: z.number().nullable(),
  /** What it has to do; null where something stands in its way. */
  work: work.nullable(),
})

export type Problem = z.infer<typeof problem>
export type Outline = z.infer<typeof outline>
export type RequestPreview = z.infer<typeof requestPreview>
