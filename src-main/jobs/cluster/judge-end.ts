import type { ErrorCode } from '#contract/errors.ts'
import type { JobRecord } from '#db/runs/jobs.ts'

/** How many times in a row a run is sent again after a job that finished no step. */
const mostIdle = 2

export interface Failure {
  code: ErrorCode
  message: string
  status: 'failed' | 'interrupted'
}

type Verdict = { again: true } | Failure

/**
 * Decides what happens to a run whose job ended without a result.
 * @param state Slurm's final state; undefined if it has forgotten the job
 * @param moved whether the job finished a step
 * @param log the end of the job's output
 */
export function judgeEnd(state: string | undefined, moved: boolean, { id, idle, node }: JobRecord, log: string): Verdict {
  const lastOutput = log.trim() === '' ? '' : ` Its last output: ${log.trim().slice(-500)}`
  if (state === 'OUT_OF_MEMORY')
    return {
      code: 'out-of-memory',
      message: `The job ${id} used more memory than it requested. Request more in the cluster’s profile.`,
      status: 'failed',
    }
  if (state === 'CANCELLED')
    return { code: 'cancelled', message: `The job ${id} was cancelled on the cluster. Resume to submit it again.`, status: 'interrupted' }
  if (state === 'TIMEOUT' && !moved)
    return {
      code: 'infeasible',
      message: `The job ${id} reached its time limit before finishing a step. Request more time in the cluster’s profile.`,
      status: 'failed',
    }
  if (moved || idle < mostIdle) return { again: true }
  const where = node ? ` on ${node}` : ''
  return {
    code: 'internal',
    message: `The job ${id} ended${where} ${idle + 1} times in a row before finishing a step (${state ?? 'forgotten by the cluster'}).${lastOutput}`,
    status: 'interrupted',
  }
}
