import { z } from 'zod'
import { errorCodes } from '../errors.ts'
import { formatOutline } from '../exports/exports.ts'
import { hubFile } from '../models/hub-file.ts'
import { work } from './time/estimate.ts'

/** A text or a task by name, such as `c4-train` with its title. */
const named = z.object({ id: z.string(), title: z.string() })

/**
 * A reason why a request is impossible: the field, and a sentence for users. `of` is the task that it is about, and `absent` is what could
 * not be downloaded.
 */
export const problem = z.object({
  code: z.enum(errorCodes),
  field: z.string(),
  message: z.string(),
  of: named.optional(),
  absent: named.optional(),
})

/** What a request would remove, known before anything is computed: how much of each kind, and the sparsity that this reaches. */
export const outline = z.object({
  attentionRemoved: z.number().int().nullable(),
  blocksRemoved: z.number().int().nullable(),
  neuronsRemovedPerBlock: z.number().int().nullable(),
  /** Over all mixtures. Absent for methods that do not remove experts. */
  expertsRemoved: z.number().int().optional(),
  reached: z.number().nullable(),
})

/** The engine's preview of a request, without reading weights. `fetches` are files that the run would download. */
export const requestPreview = outline.extend({
  problems: z.array(problem),
  notes: z.array(z.string()),
  /** The result's size in each format. */
  formats: z.array(formatOutline),
  fetches: z.array(z.object({ field: z.string(), file: hubFile, advice: z.string(), of: named })),
  feasibleRange: z.object({ minimum: z.number(), maximum: z.number() }).nullable(),
  /** The file sizes that the method can reach, and the predicted size for a budget: of a GGUF file, unless the budget names a format. */
  fileRange: z.object({ least: z.number(), most: z.number(), predicted: z.number().nullable() }).nullable(),
  memoryBytes: z.number().nullable(),
  /** The run's work; null if the request is impossible. */
  work: work.nullable(),
})

export type Problem = z.infer<typeof problem>
export type Outline = z.infer<typeof outline>
export type RequestPreview = z.infer<typeof requestPreview>
