import { EspalierError } from '#contract/errors.ts'
import {
  type BulkAction,
  type BulkKind,
  type BulkResult,
  bulkKind,
  canTake,
  type RunSelection,
  type SelectionState,
  type Undone,
} from '#contract/runs/bulk.ts'
import { newId } from '#db/ids.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { RunsChange } from '#db/runs/undos.ts'
import type { QueueChange } from '#jobs/run-queue.ts'
import type { Context } from '../context.ts'
import { undoChange } from './undo-change.ts'

/** So many runs can be shown together. */
const mostShown = 500

export type BulkActions = ReturnType<typeof bulkActions>

/** Actions on several runs: each is one transaction, says how many runs took part, and can be undone whole. */
export function bulkActions({ history, queue, emit }: Pick<Context, 'history' | 'queue' | 'emit'>) {
  const orderOfQueue = () => history.queue.waiting().map(({ number }) => number)

  function remember(kind: BulkKind, rows: readonly RunRow[], experiment: RunsChange['experiment'] = null): string {
    const undo = newId('undo')
    const kept = rows.map(
      ({ number, status, archived_at, waited, start_over, cut_off, crashes, problem, ended_at, tags, starred, notes }) => ({
        ...{ number, status, archived_at, waited, start_over, cut_off, crashes, problem, ended_at, tags, starred, notes },
      }),
    )
    history.undos.insert(undo, { kind, order: orderOfQueue(), rows: kept, experiment }, Date.now())
    return undo
  }

  /** Archived runs do not wait: those of the queue become drafts that remember it. */
  function archive(rows: readonly RunRow[]): QueueChange {
    const waiting = rows.filter(({ status }) => status === 'queued')
    for (const { number } of rows) history.runs.patch(number, { archived_at: Date.now() })
    for (const { number } of waiting) history.runs.patch(number, { status: 'draft', queue_position: null, waited: 1 })
    return { changed: numbersOf(rows), stopped: waiting }
  }

  function bringBack(rows: readonly RunRow[]): QueueChange {
    for (const { number } of rows) history.runs.patch(number, { archived_at: null })
    return { changed: numbersOf(rows) }
  }

  function mark(
    rows: readonly RunRow[],
    { notes, starred, addTags = [], removeTags = [] }: Extract<BulkAction, { kind: 'mark' }>,
  ): QueueChange {
    for (const { number, tags } of rows) {
      const kept = (JSON.parse(tags) as string[]).filter((tag) => !removeTags.includes(tag))
      history.runs.patch(number, {
        ...(notes === undefined ? {} : { notes }),
        ...(starred === undefined ? {} : { starred }),
        tags: [...new Set([...kept, ...addTags])],
      })
    }
    return { changed: numbersOf(rows) }
  }

  function write(action: BulkAction, rows: readonly RunRow[]): QueueChange {
    if (action.kind === 'mark') return mark(rows, action)
    if (action.kind === 'archive') return archive(rows)
    if (action.kind === 'unarchive') return bringBack(rows)
    return queue.write(action.kind, rows)
  }

  /** Does an action to the rows that `choose` finds and that can take part. */
  function act(action: BulkAction, choose: () => readonly RunRow[]): BulkResult {
    const result: BulkResult = { runs: 0, changed: 0, waited: 0, undo: null }
    queue.change(() => {
      const rows = choose()
      const able = rows.filter((row) => canTake(action.kind, { status: row.status, archived: row.archived_at !== null }))
      result.runs = rows.length
      result.changed = able.length
      if (able.length === 0) return { changed: [] }
      result.undo = remember(action.kind, able)
      const change = write(action, able)
      result.waited = able.filter(({ status, waited }) => status === 'queued' || waited === 1).length
      return change
    })
    return result
  }

  /** Archives an experiment with its runs, or brings it back; runs that waited are drafts then. Running ones end first. */
  function setArchived(id: string, archived: boolean): Pick<BulkResult, 'undo'> & { waited: string[] } {
    let undo: string | null = null
    let waited: string[] = []
    queue.change(() => {
      const rows = history.runs.ofExperiment(id)
      const kind = archived ? 'archive' : 'unarchive'
      undo = remember(kind, rows, { id, archivedAt: history.experiments.archivedAt(id) ?? null })
      history.experiments.patch(id, { archivedAt: archived ? Date.now() : null })
      const able = rows.filter((row) => canTake(kind, { status: row.status, archived: row.archived_at !== null }))
      waited = able.filter((row) => (archived ? row.status === 'queued' : row.waited === 1)).map((row) => row.id)
      return archived ? archive(able) : bringBack(able)
    })
    return { undo, waited }
  }

  function undo(id: string): Undone {
    let done: Undone = { runs: 0, left: 0 }
    let experiment: string | undefined
    queue.change(() => {
      const change = history.undos.take(id)
      if (!change) throw new EspalierError('not-found', 'This action was undone already, or it is more than a day old.')
      experiment = change.experiment?.id
      const { counts, ...written } = undoChange({ history, queue }, change)
      done = counts
      return written
    })
    const found = experiment === undefined ? undefined : history.experiments.find(experiment)
    if (found) emit({ name: 'experiment changed', data: { experiment: found } })
    return done
  }

  function look(selection: RunSelection): SelectionState {
    const counts = history.queries.selectedCounts(selection)
    const sum = (some: typeof counts) => some.reduce((total, { runs }) => total + runs, 0)
    const able = bulkKind.options.map((kind) => [kind, sum(counts.filter((count) => canTake(kind, count)))])
    const statuses = Map.groupBy(counts, ({ status }) => status)
    return {
      runs: sum(counts),
      able: Object.fromEntries(able) as SelectionState['able'],
      statuses: Object.fromEntries([...statuses].map(([status, some]) => [status, sum(some)])),
      tags: history.queries.selectedTags(selection),
      ids: history.queries.selectedIds(selection, mostShown),
    }
  }

  return { act, setArchived, undo, look }
}

const numbersOf = (rows: readonly RunRow[]): number[] => rows.map(({ number }) => number)
