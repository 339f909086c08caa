import type { ClusterJob } from '#contract/clusters/clusters.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'

/** The stored state of a run on a cluster. */
export interface JobRecord extends ClusterJob {
  /** The submission that the run is part of; null after its job was cancelled or ended. `task` is its index in the submission. */
  submission: string | null
  task: number
  /** Whether to cancel the job although the run is waiting, because the run will start from scratch. */
  drop: boolean
  /** Consecutive submissions that ended before finishing a step. */
  idle: number
  /** Number of finished steps when the run was submitted. */
  steps: number
  /** The attempt that was read last, and how far its events and log were read. */
  read: { attempt: string; events: number; log: number }
}

/** Returns the stored job of a run; undefined if it has none. */
export function jobOf({ job }: { job: string | null }): JobRecord | undefined {
  return job === null ? undefined : (JSON.parse(job) as JobRecord)
}

/** Returns the public part of a job while the cluster has it, else null. */
export function publicJob(row: { job: string | null; status: RunStatus }): ClusterJob | null {
  const job = jobOf(row)
  if (!job || job.submission === null || (row.status !== 'queued' && row.status !== 'running')) return null
  const { id, state, node, reason } = job
  return { id, state, node, reason }
}
