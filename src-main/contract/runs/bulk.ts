import { z } from 'zod'
import { id, ids, notes, notesBefore, tags } from '../identifiers.ts'
import { actionStatuses, canAct, type RunAction, type RunStatus, runStatus } from './run-status.ts'
import { runFilter } from './runs.ts'

/** Runs to act on: those with these `ids`, those that `filter` finds, or if both are given those in both. `except` excludes runs. */
export const runSelection = z
  .object({ ids: ids.optional(), filter: runFilter.optional(), except: z.array(id).max(10_000).default([]) })
  .refine(({ ids, filter }) => ids !== undefined || filter !== undefined, 'Give ids, a filter, or both.')

const runActions = Object.keys(actionStatuses) as [RunAction, ...RunAction[]]

export const bulkKind = z.enum([...runActions, 'unarchive', 'mark'])

/** What to do with the runs of a selection, as far as they allow it. `mark` changes tags, notes and stars. */
export const bulkAction = z.discriminatedUnion('kind', [
  z.object({ kind: bulkKind.exclude(['mark']) }),
  z.object({
    kind: z.literal('mark'),
    notes: notes.optional(),
    notesBefore,
    addTags: tags.optional(),
    removeTags: tags.optional(),
    starred: z.boolean().optional(),
  }),
])

/** How many runs a selection has now, and how many of them allow each action. */
export const selectionState = z.object({
  runs: z.number().int(),
  able: z.record(bulkKind, z.number().int()),
  statuses: z.partialRecord(runStatus, z.number().int()),
  tags: z.array(z.string()),
  /** Null if the notes differ. */
  notes: z.string().nullable(),
  /** The number of runs that have notes. */
  noted: z.number().int(),
  /** The ids of at most 500 runs, for screens that show the runs together. */
  ids: z.array(id),
})

/**
 * `runs` were selected, and `changed` of these allowed the action. `undo` is an id for the call `runs.undo`; null if nothing changed.
 * `waited` counts the changed runs that were in the queue.
 */
export const bulkResult = z.object({
  runs: z.number().int(),
  changed: z.number().int(),
  waited: z.number().int(),
  undo: id.nullable(),
})

/** How many runs were restored. `left` counts those that keep their state, because they were changed or computed since. */
export const undone = z.object({ runs: z.number().int(), left: z.number().int() })

export type RunSelection = z.infer<typeof runSelection>
export type SelectionInput = z.input<typeof runSelection>
export type BulkKind = z.infer<typeof bulkKind>
export type BulkAction = z.infer<typeof bulkAction>
export type BulkInput = z.input<typeof bulkAction>
export type SelectionState = z.infer<typeof selectionState>
export type BulkResult = z.infer<typeof bulkResult>
export type Undone = z.infer<typeof undone>

/** Whether a run allows an action. */
export function canTake(kind: BulkKind, { status, archived }: { status: RunStatus; archived: boolean }): boolean {
  if (kind === 'mark') return true
  if (kind === 'unarchive') return archived
  return !archived && canAct(kind, status)
}
