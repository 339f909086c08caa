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
import type { RunPatch, RunRow } from '#db/runs/runs.ts'
import type { RunsChange } from '#db/runs/undos.ts'
import { retirement } from '#jobs/run-actions.ts'
import type { QueueChange } from '#jobs/run-queue.ts'
import { ended } from '#jobs/run-recorder.ts'
import { checkNotes } from '../check-notes.ts'
import type { Context } from '../context.ts'

/** How many ids a selection reports, for screens that show the runs together. */
const mostShown = 500

/** Actions on several runs. Each is one transaction, reports how many runs it changed, and can be undone as a whole. */
export class BulkActions {
  readonly #context: Pick<Context, 'history' | 'queue' | 'emit'>

  constructor(context: Pick<Context, 'history' | 'queue' | 'emit'>) {
    this.#context = context
  }

  /** Applies an action to the rows that `choose` returns, as far as they allow it. `choose` runs inside the transaction. */
  act(action: BulkAction, choose: () => readonly RunRow[]): BulkResult {
    const result: BulkResult = { runs: 0, changed: 0, waited: 0, undo: null }
    this.#context.queue.change(() => {
      const rows = choose()
      const able = rows.filter((row) => canTakeRow(action.kind, row))
      result.runs = rows.length
      result.changed = able.length
      if (able.length === 0) return { changed: [] }
      result.undo = this.#remember(action.kind, able)
      const change = this.#write(action, able)
      result.waited = able.filter(({ status, waited }) => status === 'queued' || waited === 1).length
      return change
    })
    return result
  }

  /** Archives or restores an experiment with its runs. Queued runs become drafts; running ones finish first. */
  setArchived(id: string, archived: boolean): Pick<BulkResult, 'undo'> & { waited: string[] } {
    const { history, queue } = this.#context
    let undo: string | null = null
    let waited: string[] = []
    queue.change(() => {
      const rows = history.runs.ofExperiment(id)
      const kind = archived ? 'archive' : 'unarchive'
      undo = this.#remember(kind, rows, { id, archivedAt: history.experiments.archivedAt(id) ?? null })
      history.experiments.patch(id, { archivedAt: archived ? Date.now() : null })
      const able = rows.filter((row) => canTakeRow(kind, row))
      waited = able.filter((row) => (archived ? row.status === 'queued' : row.waited === 1)).map((row) => row.id)
      return this.#write({ kind }, able)
    })
    return { undo, waited }
  }

  undo(id: string): Undone {
    const { history, queue, emit } = this.#context
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

  look(selection: RunSelection): SelectionState {
    const { queries } = this.#context.history
    const counts = queries.selectedCounts(selection)
    const sum = (some: typeof counts) => some.reduce((total, { runs }) => total + runs, 0)
    const able = bulkKind.options.map((kind) => [kind, sum(counts.filter((count) => canTake(kind, count)))])
    const statuses = Map.groupBy(counts, ({ status }) => status)
    return {
      runs: sum(counts),
      able: Object.fromEntries(able) as SelectionState['able'],
      statuses: Object.fromEntries([...statuses].map(([status, some]) => [status, sum(some)])),
      tags: queries.selectedTags(selection),
      ...queries.selectedNotes(selection),
      ids: queries.selectedIds(selection, mostShown),
    }
  }

  #remember(kind: BulkKind, rows: readonly RunRow[], experiment: RunsChange['experiment'] = null): string {
    const { history } = this.#context
    const undo = newId('undo')
    const kept = rows.map(
      ({ number, status, archived_at, waited, start_over, cut_off, crashes, problem, ended_at, tags, starred, notes }) => ({
        ...{ number, status, archived_at, waited, start_over, cut_off, crashes, problem, ended_at, tags, starred, notes },
      }),
    )
    const order = history.queue.waiting().map(({ number }) => number)
    history.undos.insert(undo, { kind, order, rows: kept, experiment }, Date.now())
    return undo
  }

  #write(action: BulkAction, rows: readonly RunRow[]): QueueChange {
    const { runs } = this.#context.history
    const changed = rows.map(({ number }) => number)
    if (action.kind === 'archive') return this.#archive(rows)
    if (action.kind === 'unarchive') for (const number of changed) runs.patch(number, { archived_at: null })
    else if (action.kind === 'mark') for (const row of rows) runs.patch(row.number, marked(row, action))
    else return this.#context.queue.write(action.kind, rows)
    return { changed }
  }

  /** Archives runs. Archived runs do not wait in the queue: queued ones become drafts that remember that they were queued. */
  #archive(rows: readonly RunRow[]): QueueChange {
    const { runs } = this.#context.history
    const stopped = rows.filter(({ status }) => status === 'queued')
    for (const { number } of rows) runs.patch(number, { archived_at: Date.now() })
    for (const { number } of stopped) runs.patch(number, { status: 'draft', queue_position: null, waited: 1 })
    return { changed: rows.map(({ number }) => number), stopped }
  }
}

const canTakeRow = (kind: BulkKind, row: RunRow): boolean =>
  canTake(kind, { status: row.status, archived: row.archived_at !== null }) && retirement(kind, row) === undefined

function marked(row: RunRow, action: Extract<BulkAction, { kind: 'mark' }>): RunPatch {
  checkNotes(row, action)
  const { notes, starred, addTags = [], removeTags = [] } = action
  const kept = (JSON.parse(row.tags) as string[]).filter((tag) => !removeTags.includes(tag))
  return {
    ...(notes === undefined ? {} : { notes }),
    ...(starred === undefined ? {} : { starred }),
    tags: [...new Set([...kept, ...addTags])],
  }
}

type Saved = RunsChange['rows'][number]

/**
 * What undo does with the status of a run. `same` keeps it, `status` restores the earlier one, `place` returns the run to its place in the
 * queue, `front` puts it at the front of the queue. `left` changes nothing about the run, because it continued since.
 */
type Return = 'same' | 'status' | 'place' | 'front' | 'left'

/** Restores runs to their state before a bulk action. Must be called inside a transaction. */
function undoChange(
  { history, queue }: Pick<Context, 'history' | 'queue'>,
  { kind, order, rows, experiment }: RunsChange,
): QueueChange & { counts: Undone } {
  const found = rows.flatMap((saved) => {
    const now = history.runs.byNumber(saved.number)
    return now ? [{ saved, now, way: returnOf(kind, saved, now) }] : []
  })
  const numbersBy = (way: Return) => found.flatMap((one) => (one.way === way ? one.saved.number : []))
  const returned = found.filter(({ way }) => way !== 'left')
  if (experiment) history.experiments.patch(experiment.id, { archivedAt: experiment.archivedAt })
  for (const { saved, now, way } of returned) {
    if (now.status === 'running' && way !== 'same') history.runs.patch(saved.number, ended(now, queue.secondsOf(now)))
    history.runs.patch(saved.number, { ...markedBefore(kind, saved), ...(way === 'status' ? statusBefore(saved) : {}) })
  }
  history.queue.putBack(numbersBy('place'), order, numbersBy('front'))
  for (const { saved, way } of returned) if (way !== 'same') history.runs.patch(saved.number, countersBefore(saved))
  return {
    changed: returned.map(({ saved }) => saved.number),
    stopped: returned.filter(({ now, way }) => now.status === 'running' && way !== 'same').map(({ now }) => now),
    counts: { runs: returned.length, left: rows.length - returned.length },
  }
}

function returnOf(kind: string, saved: Saved, now: RunRow): Return {
  if (kind === 'mark') return 'same'
  if (kind === 'archive' || kind === 'unarchive')
    return kind === 'archive' && saved.status === 'queued' && now.status === 'draft' ? 'place' : 'same'
  if (kind === 'cancel' || kind === 'pause') {
    if (now.status === 'running' && now.wish === kind) return 'same'
    if (now.status !== (kind === 'cancel' ? 'cancelled' : 'paused')) return 'left'
    return saved.status === 'queued' ? 'place' : saved.status === 'running' ? 'front' : 'status'
  }
  if (now.status === 'queued') return 'status'
  // A retried run has lost its earlier results, and a run of another process cannot be stopped here.
  return now.status === 'running' && kind !== 'retry' && now.owner !== null ? 'status' : 'left'
}

/** The fields, other than the status, that a bulk action writes. */
function markedBefore(kind: string, { tags, starred, notes, archived_at, waited }: Saved) {
  if (kind === 'mark') return { tags: JSON.parse(tags) as string[], starred: starred === 1, notes }
  if (kind === 'archive' || kind === 'unarchive') return { archived_at, waited }
  return kind === 'cancel' || kind === 'pause' ? { wish: null } : {}
}

function statusBefore({ status, problem, ended_at }: Saved) {
  return { status, queue_position: null, ended_at, problem: problem === null ? null : JSON.parse(problem) }
}

function countersBefore({ start_over, cut_off, crashes, waited }: Saved) {
  return { start_over, cut_off, crashes, waited }
}
