import type { Undone } from '#contract/runs/bulk.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { RunsChange } from '#db/runs/undos.ts'
import type { QueueChange } from '#jobs/run-queue.ts'
import { ended } from '#jobs/run-recorder.ts'
import type { Context } from '../context.ts'

type Saved = RunsChange['rows'][number]

/**
 * What undo does with the status of a run. `same` keeps it, `status` restores the earlier one, `place` returns the run to its place in the
 * queue, `front` puts it at the front of the queue. `left` changes nothing about the run, because it continued since.
 */
type Return = 'same' | 'status' | 'place' | 'front' | 'left'

/** Restores runs to their state before a bulk action. Must be called inside a transaction. */
export function undoChange(
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
