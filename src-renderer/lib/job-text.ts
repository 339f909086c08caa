import type { RunEntry } from '#contract/runs/runs.ts'

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
