import { expect, test } from 'vitest'
import type { ClusterJob } from '#contract/clusters/clusters.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { deviceText, endedShare, folds, jobText, queueFacts } from '../../../../../src-renderer/features/runs/queue/queue-text.ts'

const running = { status: 'running' } as RunEntry
const state = { runs: [running], waiting: 9_999, ended: 2_500, endedLastHour: 24, owner: true }

test('a queue says how much waits, how far it is and how fast', () => {
  expect(queueFacts(state)).toEqual(['9,999 runs waiting', '2,500 of 12,500 runs ended', '24 ended in the last hour'])
  expect(endedShare(state)).toBe(0.2)
  expect(queueFacts({ ...state, waiting: 1, ended: 0, endedLastHour: 0, owner: false })).toEqual(['1 run waiting, run by another process'])
})

test('analyses of what broke are no runs', () => {
  const analysis = (status: string) => ({ status, method: 'divergence' }) as RunEntry
  expect(queueFacts({ ...state, runs: [analysis('running'), analysis('queued')], waiting: 3, ended: 2, endedLastHour: 0 })).toEqual([
    '2 runs waiting',
    '2 of 4 runs ended',
  ])
})

test('only a long queue folds', () => {
  expect([2, 8, 9].map((waiting) => folds({ waiting }))).toEqual([false, false, true])
})

test('an idle device of a paused queue is paused', () => {
  expect(deviceText({ title: '2 threads', status: 'off' }, true)).toBe('2 threads: paused')
  expect(deviceText({ title: '2 threads', status: 'busy' }, true)).toBe('2 threads: busy')
  expect(deviceText({ title: '2 threads', status: 'off' }, false)).toBe('2 threads: off')
})

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
