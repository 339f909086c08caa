import { expect, test } from 'vitest'
import type { ClusterJob } from '#contract/clusters/cluster-job.ts'
import { jobText } from '../../../src-renderer/lib/job-text.ts'

const job = { id: '12_3', state: 'waiting', node: null, reason: null } as const

test.each<[string | null, ClusterJob | null, string]>([
  [null, null, ''],
  ['alps', null, 'for alps'],
  ['alps', { ...job, id: null, state: 'sending' }, 'being sent to alps'],
  ['alps', { ...job, reason: 'Resources' }, 'alps, job 12_3: Resources'],
  ['alps', { ...job, state: 'running', node: 'n2' }, 'alps, n2, job 12_3'],
  ['alps', { ...job, state: 'lost', node: 'n2' }, 'alps does not answer, job 12_3'],
])('a run at %s with %o is at "%s"', (executor, known, text) => {
  expect(jobText({ executor, job: known })).toBe(text)
})
