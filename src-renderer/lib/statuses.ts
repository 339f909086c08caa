import type { RunStatus } from '#contract/runs.ts'

/** Statuses in the order of a run's life; the type keeps this list complete. */
const order: Record<RunStatus, number> = { draft: 0, queued: 1, running: 2, paused: 3, interrupted: 4, done: 5, failed: 6, cancelled: 7 }

export const runStatusOrder = (Object.keys(order) as RunStatus[]).sort((a, b) => order[a] - order[b])

/** What a person can do with a run in this state. */
export function actionsFor(status: RunStatus): { pause: boolean; resume: boolean; cancel: boolean; enqueue: boolean; retry: boolean } {
  return {
    pause: status === 'running',
    resume: status === 'paused' || status === 'interrupted' || status === 'cancelled' || status === 'failed',
    cancel: status === 'running' || status === 'queued' || status === 'paused',
    enqueue: status === 'draft',
    retry: status === 'failed' || status === 'cancelled' || status === 'done',
  }
}
