import { EspalierError } from '#contract/errors.ts'
import { canAct, type RunAction, refusalOf } from '#contract/runs/run-actions.ts'
import type { History } from '#db/history.ts'
import { jobOf } from '#db/runs/jobs.ts'
import type { RunRow } from '#db/runs/runs.ts'

/** The rows for an action on runs. Throws if it is not allowed on one of them: all or none. */
export function rowsFor(history: History, action: RunAction, ids: readonly string[]): RunRow[] {
  return ids.map((id) => {
    const row = history.runs.find(id)
    if (!row) throw new EspalierError('not-found', `There is no run ${id}.`)
    if (row.archived_at !== null) throw new EspalierError('conflict', `"${row.name}" is archived. Restore it first.`)
    if (canAct(action, row.status)) return row
    throw new EspalierError('conflict', refusalOf(action, row), { id, status: row.status })
  })
}

/** Deletes a run's results. Steps that other runs have copied are kept there. */
export function startOver(history: History, row: RunRow): void {
  const { id, number } = row
  const job = jobOf(row)
  history.steps.clear(id)
  history.events.clear(number)
  history.measures.clear(number)
  history.documents.clear(number)
  history.runs.patch(number, { reached: null, has_plan: false, seconds: null, started_at: null, fingerprint: null })
  // A job that still exists is cancelled first, and its output discarded.
  history.runs.patch(number, { job: job && job.submission !== null ? { ...job, drop: true } : null })
}
