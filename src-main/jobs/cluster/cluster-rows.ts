import { EspalierError } from '#contract/errors.ts'
import type { History } from '#db/history.ts'
import { type JobRecord, jobOf } from '#db/runs/jobs.ts'
import type { RunPatch, RunRow } from '#db/runs/runs.ts'
import { adviceFor } from '../compute/explain-exit.ts'
import type { TaskOfRun } from './cluster-files.ts'
import type { Failure } from './judge-end.ts'

/** Changes the history's rows of runs on a cluster, and reports every change. */
export class ClusterRows {
  readonly #history: History
  readonly #changed: (numbers: readonly number[]) => void

  constructor(history: History, changed: (numbers: readonly number[]) => void) {
    this.#history = history
    this.#changed = changed
  }

  /** Reads the rows again, because the user may have changed them while the cluster was queried. */
  fresh(rows: readonly RunRow[]): RunRow[] {
    return rows.flatMap(({ id }) => this.#history.runs.find(id) ?? [])
  }

  patch(row: RunRow, patch: RunPatch): void {
    this.#history.runs.patch(row.number, patch)
    this.#changed([row.number])
  }

  /** Updates a run's stored job. Reports nothing if nothing changed. */
  mark(row: RunRow, changes: Partial<JobRecord>, status: RunPatch['status'] = row.status): void {
    const job = jobOf(row)
    if (!job) return
    const next = { ...job, ...changes }
    if (JSON.stringify(next) !== JSON.stringify(job) || status !== row.status) this.patch(row, { status, job: next })
  }

  /** @param seconds of attempts that the row does not include yet */
  fail(row: RunRow, { code, message, status }: Failure, seconds: number): void {
    const advice = adviceFor(new EspalierError(code, message), this.#history.documents.request(row.number).memoryBytes)
    this.patch(row, {
      status,
      problem: { code, message, advice },
      owner: null,
      wish: null,
      ended_at: Date.now(),
      seconds: (row.seconds ?? 0) + seconds,
    })
  }
}

export const taskOfRun = (row: RunRow): TaskOfRun => ({ run: row.id, task: jobOf(row)?.id ?? null })
export const isActive = ({ status }: RunRow): boolean => status === 'queued' || status === 'running'

export function isSent(row: RunRow): boolean {
  const job = jobOf(row)
  return isActive(row) && job?.drop === false && job.submission !== null
}
