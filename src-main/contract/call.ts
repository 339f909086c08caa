import { z } from 'zod'
import { clusterName } from './clusters/clusters.ts'
import type { ErrorCode } from './errors.ts'
import { id, ids, moment, name, notes, tags } from './identifiers.ts'

/** A call: its input, its output, and the errors that a caller can act on. Any call may also fail with `invalid` or `internal`. */
export interface Call<I extends z.ZodType = z.ZodType, O extends z.ZodType = z.ZodType> {
  summary: string
  input: I
  output: O
  errors: readonly ErrorCode[]
}

export function call<I extends z.ZodType, O extends z.ZodType>(summary: string, input: I, output: O, ...errors: ErrorCode[]): Call<I, O> {
  return { summary, input, output, errors }
}

export const one = z.object({ id })
export const many = z.object({ ids })
export const start = z.enum(['draft', 'queue']).default('queue')
/** The cluster that computes the runs; null for this machine. */
export const executor = clusterName.nullable().default(null)
export const marks = z.object({ name: name.optional(), notes: notes.optional(), tags: tags.optional(), starred: z.boolean().optional() })
export const undoable = z.object({ undoUntil: moment })
