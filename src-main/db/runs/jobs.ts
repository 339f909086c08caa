import type { ClusterJob } from '#contract/clusters/cluster-job.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'

/** The stored state of a run on a cluster. */
export interface JobRecord extends ClusterJob {
  /** The submission that it is part of, and its index there; null after it was cancelled or ended. */
  submission: string | null
  task: number
  /** Cancel the job although the run is waiting: it will start from scratch. */
  drop: boolean
  /** Consecutive submissions that ended before finishing a step. */
  idle: number
  /** Number of finished steps when it was submitted. */
  steps: number
  /** The attempt that was read last, and how far its events and log were read. */
  read: { attempt: string; events: number; log: number }
}

/** The stored job of a run; undefined if it never had one. */
export function jobOf({ job }: { job: string | null }): JobRecord | undefined {
  return job === null ? undefined : (JSON.parse(job) as JobRecord)
}

/** The public part, while the cluster has the job. */
export function publicJob(row: { job: string | null; status: RunStatus }): ClusterJob | null {
  const job = jobOf(row)
  if (!job || job.submission === null || (row.status !== 'queued' && row.status !== 'running')) return null
  const { id, state, node, reason } = job
  return { id, state, node, reason }
}
