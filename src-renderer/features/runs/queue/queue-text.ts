import type { DeviceState, QueueState } from '#contract/runs/queue.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { formatInteger, formatPlural } from '../../../lib/format.ts'

/** The largest number of waiting runs that are listed. More fold into one line. */
const openLimit = 8

export const folds = ({ waiting }: Pick<QueueState, 'waiting'>): boolean => waiting > openLimit

type Counts = Pick<QueueState, 'runs' | 'waiting' | 'ended' | 'endedLastHour' | 'owner'>

/** How many runs wait, how far the queue is, and its rate: `300 runs waiting`, `12 of 312 ended`, `24 ended in the last hour`. */
export function queueFacts(state: Counts): string[] {
  const waiting = waitingIn(state)
  const all = state.ended + runningIn(state) + waiting
  return [
    ...(waiting > 0 || !state.owner ? [`${formatPlural(waiting, 'run')} waiting${state.owner ? '' : ', run by another process'}`] : []),
    ...(state.ended > 0 ? [`${formatInteger(state.ended)} of ${formatPlural(all, 'run')} ended`] : []),
    ...(state.endedLastHour > 0 ? [`${formatInteger(state.endedLastHour)} ended in the last hour`] : []),
  ]
}

/** The ended share of the runs made since the oldest in the queue. */
export function endedShare(state: Counts): number {
  return state.ended / Math.max(1, state.ended + runningIn(state) + waitingIn(state))
}

/** Analyses are no runs. They are first in the queue, so all of them are listed. */
const waitingIn = ({ runs, waiting }: Pick<QueueState, 'runs' | 'waiting'>): number =>
  waiting - runs.filter(({ status, method }) => status === 'queued' && method === 'divergence').length
const runningIn = ({ runs }: Pick<QueueState, 'runs'>): number =>
  runs.filter(({ status, method }) => status === 'running' && method !== 'divergence').length

/** The title and status of a device. One that is off or idle while the queue is paused counts as paused. */
export function deviceText({ title, status }: Pick<DeviceState, 'title' | 'status'>, paused: boolean): string {
  return `${title}: ${paused && (status === 'off' || status === 'idle') ? 'paused' : status}`
}

/** Where a run of a cluster is and what it waits for, in the cluster's own words; empty for runs of this machine. */
export function jobText({ executor, job }: Pick<RunEntry, 'executor' | 'job'>): string {
  if (executor === null) return ''
  if (!job) return `for ${executor}`
  const number = job.id === null ? '' : `, job ${job.id}`
  if (job.state === 'lost') return `${executor} does not answer${number}`
  const reason = job.reason === null ? '' : `: ${job.reason}`
  if (job.state === 'sending') return `being sent to ${executor}${reason}`
  const place = job.node === null ? executor : `${executor}, ${job.node}`
  return `${place}${number}${reason}`
}
