import { z } from 'zod'
import { clusterName } from './clusters/clusters.ts'
import type { ErrorCode } from './errors.ts'
import { id, ids, moment, name, notes, notesBefore, tags } from './identifiers.ts'

/** A call: its input, its output, and the errors that the caller can act on. Any call may also fail with `invalid` or `internal`. */
export interface Call<I extends z.ZodType = z.ZodType, O extends z.ZodType = z.ZodType> {
  summary: string
  input: I
  output: O
  errors: readonly ErrorCode[]
}

export function call<I extends z.ZodType, O extends z.ZodType>(summary: string, input: I, output: O, ...errors: ErrorCode[]): Call<I, O> {
  return { summary, input, output, errors }
}

/** The input of a call about one item. */
export const idInput = z.object({ id })
/** The input of a call about several items. */
export const idsInput = z.object({ ids })
/** Whether new runs are queued at once, or stay drafts until they are queued by another call. */
export const start = z.enum(['draft', 'queue']).default('queue')
/** The cluster that computes the runs; null for this machine. */
export const executor = clusterName.nullable().default(null)
/** What users can change about a model or an experiment. Absent fields stay unchanged. */
export const annotations = z.object({
  name: name.optional(),
  notes: notes.optional(),
  notesBefore,
  tags: tags.optional(),
  starred: z.boolean().optional(),
})
/** The output of a call that can be undone, until this time. */
export const undoable = z.object({ undoUntil: moment })
