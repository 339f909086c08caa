import { z } from 'zod'

const runStatuses = ['draft', 'queued', 'running', 'paused', 'done', 'failed', 'cancelled', 'interrupted'] as const
export const runStatus = z.enum(runStatuses)
export type RunStatus = z.infer<typeof runStatus>

export type RunAction = 'enqueue' | 'resume' | 'retry' | 'pause' | 'cancel' | 'archive'

/** The statuses in which each action is allowed. The queue and the screens both follow this table. */
export const actionStatuses: Readonly<Record<RunAction, readonly RunStatus[]>> = {
  enqueue: ['draft'],
  resume: ['paused', 'failed', 'cancelled', 'interrupted'],
  retry: ['done', 'paused', 'failed', 'cancelled', 'interrupted'],
  pause: ['queued', 'running'],
  cancel: ['queued', 'running', 'paused', 'interrupted'],
  archive: ['draft', 'queued', 'paused', 'done', 'failed', 'cancelled', 'interrupted'],
}

export function canAct(action: RunAction, status: RunStatus): boolean {
  return actionStatuses[action].includes(status)
}

/** What has happened to a run after each action. */
const pastOf: Readonly<Record<RunAction, string>> = {
  enqueue: 'queued',
  resume: 'resumed',
  retry: 'restarted',
  pause: 'paused',
  cancel: 'cancelled',
  archive: 'archived',
}

const alternatives = new Intl.ListFormat('en-GB', { type: 'disjunction' })

/** Says why an action is not allowed on a run. */
export function refusalOf(action: RunAction, { name, status }: { name: string; status: RunStatus }): string {
  return `"${name}" is ${status}, so it cannot be ${pastOf[action]}. Only ${alternatives.format(actionStatuses[action])} runs can be.`
}
