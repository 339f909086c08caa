import type { ClusterProfile } from '#contract/clusters/clusters.ts'
import { toErrorMessage } from '#contract/errors.ts'
import type { History } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { type JobRecord, jobOf } from '#db/runs/jobs.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { startOverIfAsked } from '../run-actions.ts'
import { batchScript } from './batch-script.ts'
import type { ClusterFiles } from './cluster-files.ts'
import type { ClusterRows } from './cluster-rows.ts'
import type { Command } from './cluster-shell.ts'
import type { Slurm } from './slurm.ts'

/** The most tasks in one job array. Clusters allow a thousand by default. More runs are sent as several arrays. */
const mostTasks = 500

const nothingRead: JobRecord['read'] = { attempt: '', events: 0, log: 0 }

interface SendParts {
  history: History
  profile: ClusterProfile
  /** The command that starts `espalier` on a node. */
  program: Command
  files: ClusterFiles
  slurm: Slurm
  rows: ClusterRows
  changed(numbers: readonly number[]): void
}

/** Sends runs as job arrays. Their rows are marked first, so that their jobs can be found again after a crash. */
export async function sendRuns(parts: SendParts, rows: readonly RunRow[]): Promise<void> {
  for (let first = 0; first < rows.length; first += mostTasks) await sendArray(parts, rows.slice(first, first + mostTasks))
}

async function sendArray(parts: SendParts, waiting: readonly RunRow[]): Promise<void> {
  const { history, profile, program, files } = parts
  const rows = waiting.map((row) => startOverIfAsked(history, row))
  const submission = newId('sent')
  const runs = rows.map(({ id }) => id)
  // For a run that has not started, anything in its folder is left over from an earlier start.
  const isFresh = (row: RunRow) => row.started_at === null && history.steps.count(row.id) === 0
  history.transaction(() => {
    for (const [task, row] of rows.entries()) {
      const job = { ...sending(parts, row), submission, task }
      history.runs.patch(row.number, { job: isFresh(row) ? { ...job, read: nothingRead } : job })
    }
  })
  parts.changed(rows.map(({ number }) => number))
  for (const row of rows) await files.write(row, isFresh(row))
  await files.push(runs)
  try {
    const job = await parts.slurm.submit(batchScript(profile, { submission, runs, program }))
    for (const row of parts.rows.fresh(rows)) parts.rows.mark(row, { id: `${job}_${jobOf(row)?.task}`, state: 'waiting', reason: null })
  } catch (thrown) {
    const { message } = toErrorMessage(thrown)
    if (isPassing(message)) throw thrown
    refuse(parts, rows, message)
  }
}

/** Returns the job record of a run until the cluster has accepted it. */
function sending({ history, profile }: SendParts, row: RunRow): Omit<JobRecord, 'submission' | 'task'> {
  const { idle = 0, read = nothingRead } = jobOf(row) ?? {}
  return {
    id: null,
    state: 'sending',
    node: null,
    reason: profile.copies ? `copying to ${profile.host}` : null,
    drop: false,
    idle,
    steps: history.steps.count(row.id),
    read,
  }
}

function refuse({ rows: known, profile }: SendParts, rows: readonly RunRow[], why: string): void {
  const message = `The cluster ${profile.name} refused the job. ${why}`
  for (const row of known.fresh(rows)) {
    known.fail(row, { code: 'invalid', message, status: 'failed' }, 0)
    known.mark(row, { submission: null }, 'failed')
  }
}

/** Whether a command failed because the cluster was unreachable, so a retry may succeed. */
function isPassing(message: string): boolean {
  return /contact|connect|timed? ?out|did not answer|temporar|try again|not respond|zero bytes|ssh:|network|resolve|unable to/i.test(
    message,
  )
}
