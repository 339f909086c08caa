import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { QueueState } from '#contract/runs/queue.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { queue } from '../../../src-renderer/lib/queue.svelte.ts'
import { eventually } from '../../eventually.ts'

/** Each run takes so many seconds, in one phase. */
let estimated: Record<string, number>

beforeEach(() => {
  vi.stubGlobal('sessionStorage', { getItem: () => null, setItem: () => undefined, removeItem: () => undefined })
  vi.stubGlobal('fetch', async (address: string) =>
    Response.json(
      address.endsWith('queue.estimates')
        ? Object.entries(estimated).map(([run, likely]) => ({
            run,
            phases: [{ phase: 'scoring', part: 'pruning', seconds: likely }],
            seconds: { low: likely / 1.4, likely, high: likely * 1.4 },
            basis: 'runs',
          }))
        : {},
    ),
  )
})
afterEach(() => vi.unstubAllGlobals())

const run = (id: string, method: string, progress: Progress | null = null) =>
  ({ id, name: id, method, status: progress ? 'running' : 'queued', progress }) as unknown as RunEntry
const stateOf = (runs: RunEntry[]) =>
  ({
    paused: false,
    obstacle: null,
    stopped: null,
    takenUp: null,
    memoryWaits: [],
    runs,
    waiting: runs.length - 1,
  }) as unknown as QueueState
/** Half of a phase that takes this many times as long as 40 s. */
const slow = (times: number): Progress => ({
  phase: 'scoring',
  done: 10,
  total: 20,
  unit: 'parts',
  perSecond: 0.5 / times,
  ratedFor: 20 * times,
})

test('a slow run lengthens what waits of its own method, within the range of its estimate, and nothing of another', async () => {
  estimated = { a: 40, b: 40, c: 40 }
  const leftWith = async (progress: Progress, other: string) => {
    const runs = [run('a', '2ssp', progress), run('b', other), run('c', other)]
    queue.set(stateOf(runs))
    await eventually(() => queue.left(runs[1] as RunEntry), 'the estimates')
    return queue.leftOf(runs)?.likely ?? Number.NaN
  }
  expect(await leftWith(slow(1), 'shortgpt')).toBeCloseTo(20 + 80, 6)
  // Twenty seconds of it are left, twelve times as long.
  expect((await leftWith(slow(12), 'shortgpt')) - 12 * 20).toBeCloseTo(80, 6)
  expect((await leftWith(slow(12), '2ssp')) - 12 * 20).toBeCloseTo(80 * 1.4, 6)
})
