import type { ClusterJob } from '#contract/clusters/cluster-job.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'

/** What is remembered of a run on a cluster. */
export interface JobRecord extends ClusterJob {
  /** The submission that it is part of, and its place there; null when it was taken back or is over. */
  submission: string | null
  task: number
  /** Whether the job is to be taken back although the run waits: it starts from its beginning then. */
  drop: boolean
  /** Submissions in a row that ended before a step was done. */
  idle: number
  /** Steps that were done when it was sent. */
  steps: number
  /** The attempt that was read last, and how far its events and its log were. */
  read: { attempt: string; events: number; log: number }
}

/** What the history knows of a run's job; undefined where it never had one. */
export function jobOf({ job }: { job: string | null }): JobRecord | undefined {
  return job === null ? undefined : (JSON.parse(job) as JobRecord)
}

/** The part of it that is shown, while the cluster has it. */
export function publicJob(row: { job: string | null; status: RunStatus }): ClusterJob | null {
  const job = jobOf(row)
  if (!job || job.submission === null || (row.status !== 'queued' && row.status !== 'running')) return null
  const { id, state, node, reason } = job
  return { id, state, node, reason }
}
