import { z } from 'zod'
import { id, ids, notes, tags } from '../identifiers.ts'
import { actionStatuses, canAct, type RunAction } from './run-actions.ts'
import { type RunStatus, runStatus } from './run-status.ts'
import { runFilter } from './runs.ts'

/** Runs to act on: these ids, all that a filter finds, or with both the ids that the filter finds; never those of `except`. */
export const runSelection = z
  .object({ ids: ids.optional(), filter: runFilter.optional(), except: z.array(id).max(10_000).default([]) })
  .refine(({ ids, filter }) => ids !== undefined || filter !== undefined, 'Give ids, a filter, or both.')

const runActions = Object.keys(actionStatuses) as [RunAction, ...RunAction[]]

export const bulkKind = z.enum([...runActions, 'unarchive', 'mark'])

/** What is done to the runs of a selection that can take part; `mark` changes tags, notes and stars. */
export const bulkAction = z.discriminatedUnion('kind', [
  z.object({ kind: bulkKind.exclude(['mark']) }),
  z.object({
    kind: z.literal('mark'),
    notes: notes.optional(),
    addTags: tags.optional(),
    removeTags: tags.optional(),
    starred: z.boolean().optional(),
  }),
])

/** How many runs a selection has now, and how many of them can take part in each action. */
export const selectionState = z.object({
  runs: z.number().int(),
  able: z.record(bulkKind, z.number().int()),
  statuses: z.partialRecord(runStatus, z.number().int()),
  tags: z.array(z.string()),
  /** Null if they differ. */
  notes: z.string().nullable(),
  /** The first 500, for screens that show some runs together. */
  ids: z.array(id),
})

/** `changed` of `runs` took part. `undo` reverts it completely; null if nothing changed. `waited` were in the queue when they were archived. */
export const bulkResult = z.object({
  runs: z.number().int(),
  changed: z.number().int(),
  waited: z.number().int(),
  undo: id.nullable(),
})

/** How many runs were restored, and how many were changed or computed since and stay unchanged. */
export const undone = z.object({ runs: z.number().int(), left: z.number().int() })

export type RunSelection = z.infer<typeof runSelection>
export type SelectionInput = z.input<typeof runSelection>
export type BulkKind = z.infer<typeof bulkKind>
export type BulkAction = z.infer<typeof bulkAction>
export type SelectionState = z.infer<typeof selectionState>
export type BulkResult = z.infer<typeof bulkResult>
export type Undone = z.infer<typeof undone>

/** Whether a run can take part in an action on several. */
export function canTake(kind: BulkKind, { status, archived }: { status: RunStatus; archived: boolean }): boolean {
  if (kind === 'mark') return true
  if (kind === 'unarchive') return archived
  return !archived && canAct(kind, status)
}
