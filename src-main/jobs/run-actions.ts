import { EspalierError } from '#contract/errors.ts'
import { statesSparsity } from '#contract/runs/amount-text.ts'
import { unwrittenFields } from '#contract/runs/run-fields.ts'
import { canAct, type RunAction, refusalOf } from '#contract/runs/run-status.ts'
import { retirementOf } from '#contract/titles.ts'
import type { History } from '#db/history.ts'
import { flattenParameters } from '#db/runs/parameters.ts'
import { columnOf } from '#db/runs/run-filter.ts'
import { jobOf, type RunPatch, type RunRow } from '#db/runs/runs.ts'

/** Returns the error for a run whose model was removed from the library; undefined if the library has the model. */
export function missingModel(history: History, { name, model: id }: Pick<RunRow, 'name' | 'model'>): EspalierError | undefined {
  const model = history.models.find(id)
  if (model && model.removedAt === null) return undefined
  return new EspalierError(
    'not-found',
    `"${name}" cannot be computed: its model${model ? ` "${model.name}"` : ''} was removed from the library. Add the model again, then resume the run.`,
  )
}

/** Actions after which the queue computes a run. */
const starting: readonly string[] = ['enqueue', 'resume', 'retry'] satisfies RunAction[]

/** Why an action would compute a run of a removed method; undefined if it would not. */
export const retirement = (action: string, { method }: Pick<RunRow, 'method'>): string | undefined =>
  starting.includes(action) ? retirementOf(method) : undefined

/** Returns the rows of runs for an action. Throws if one of the runs does not allow it, so that it applies to all or none. */
export function rowsFor(history: History, action: RunAction, ids: readonly string[]): RunRow[] {
  return ids.map((id) => {
    const row = history.runs.get(id)
    if (row.archived_at !== null) throw new EspalierError('conflict', `"${row.name}" is archived. Restore it first.`)
    const retired = retirement(action, row)
    if (retired) throw new EspalierError('conflict', `"${row.name}" cannot be computed. ${retired}`, { id })
    const missing = starting.includes(action) ? missingModel(history, row) : undefined
    if (missing) throw missing
    if (canAct(action, row.status)) return row
    throw new EspalierError('conflict', refusalOf(action, row), { id, status: row.status })
  })
}

/** Makes the next attempt start from scratch. Until then the run keeps its results, so that the action can be undone. */
export function markToStartOver(history: History, row: RunRow): void {
  const job = jobOf(row)
  // If the cluster still has the job, it is cancelled first and its files are deleted.
  history.runs.patch(row.number, { start_over: 1, job: job && job.submission !== null ? { ...job, drop: true } : null })
}

/** Deletes the results of earlier attempts if the run is to start over. Other runs keep the steps they copied. Returns the new row. */
export function startOverIfAsked(history: History, row: RunRow): RunRow {
  if (row.start_over === 0) return row
  const { id, number, attempt_at, device, status } = row
  const request = history.documents.request(number)
  const unwritten = Object.fromEntries(Object.entries(unwrittenFields).map(([field, value]) => [columnOf(field), value]))
  // An attempt that has begun has its device already.
  const begun = status === 'running' ? { started_at: attempt_at, device } : {}
  history.transaction(() => {
    history.steps.clear(id)
    history.events.clear(number)
    history.measures.clear(number)
    history.documents.clear(number)
    history.runs.setParameters(number, flattenParameters(request))
    history.runs.patch(number, {
      ...(unwritten as RunPatch),
      ...begun,
      // The sparsity that met a budget, or of a share of experts, is a result too.
      ...(statesSparsity(request.amount) ? {} : { nominal: null }),
      progress: null,
      problem: null,
      start_over: 0,
    })
  })
  return history.runs.find(id) as RunRow
}
