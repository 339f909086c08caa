import { EspalierError } from '#contract/errors.ts'
import { canAct, type RunAction, refusalOf } from '#contract/runs/run-actions.ts'
import type { History } from '#db/history.ts'
import { jobOf } from '#db/runs/jobs.ts'
import type { RunRow } from '#db/runs/runs.ts'

/** Why a run cannot be computed whatever the queue says: its model is not in the library any more. Undefined where it is. */
export function missingModel(history: History, { name, model: id }: Pick<RunRow, 'name' | 'model'>): EspalierError | undefined {
  const model = history.models.find(id)
  if (model && model.removedAt === null) return undefined
  return new EspalierError(
    'not-found',
    `"${name}" cannot be computed: its model${model ? ` "${model.name}"` : ''} was removed from the library. Add the model again, then resume the run.`,
  )
}

/** Actions after which the queue computes a run. */
const starting: readonly RunAction[] = ['enqueue', 'resume', 'retry']

/** The rows for an action on runs. Throws if it is not allowed on one of them: all or none. */
export function rowsFor(history: History, action: RunAction, ids: readonly string[]): RunRow[] {
  return ids.map((id) => {
    const row = history.runs.get(id)
    if (row.archived_at !== null) throw new EspalierError('conflict', `"${row.name}" is archived. Restore it first.`)
    const missing = starting.includes(action) ? missingModel(history, row) : undefined
    if (missing) throw missing
    if (canAct(action, row.status)) return row
    throw new EspalierError('conflict', refusalOf(action, row), { id, status: row.status })
  })
}

/** Lets the next attempt begin from nothing. Until then the run keeps what it found, so that the action can be undone. */
export function markToStartOver(history: History, row: RunRow): void {
  const job = jobOf(row)
  // A job that is still there is taken back first; what it wrote goes with it.
  history.runs.patch(row.number, { start_over: 1, job: job && job.submission !== null ? { ...job, drop: true } : null })
}

/** Forgets what a run did before, if it is to start over. Steps that other runs took over from it stay theirs. Gives the row as it is then. */
export function startOverIfAsked(history: History, row: RunRow): RunRow {
  if (row.start_over === 0) return row
  const { id, number, attempt_at, status } = row
  history.transaction(() => {
    history.steps.clear(id)
    history.events.clear(number)
    history.measures.clear(number)
    history.documents.clear(number)
    const started_at = status === 'running' ? attempt_at : null
    history.runs.patch(number, { reached: null, has_plan: false, seconds: null, started_at, start_over: 0, fingerprint: null })
  })
  return history.runs.find(id) as RunRow
}
