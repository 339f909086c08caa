import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { QueueState } from '#contract/runs/queue.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { connect } from '../../../src-renderer/api/api.ts'
import { notices } from '../../../src-renderer/lib/notices.svelte.ts'
import { followQueue, queue } from '../../../src-renderer/lib/queue.svelte.ts'
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
      { status: address.endsWith('queue.get') ? 503 : 200 },
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

test('a slow run lengthens what waits of its own method, within the square of its range, and nothing of another', async () => {
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
  expect((await leftWith(slow(12), '2ssp')) - 12 * 20).toBeCloseTo(80 * 1.4 ** 2, 6)
})

test('the time left of the same runs does not jump when one of them ends, before and after new estimates', async () => {
  estimated = { a: 40, b: 40, c: 40, d: 40 }
  const nearlyDone: Progress = { phase: 'scoring', done: 19.9, total: 20, unit: 'parts', perSecond: 0.25, ratedFor: 80 }
  const [b, c, d] = ['b', 'c', 'd'].map((id) => run(id, '2ssp')) as [RunEntry, RunEntry, RunEntry]
  queue.set(stateOf([run('a', '2ssp', nearlyDone), b, c, d]))
  await eventually(() => queue.left(b), 'the estimates')
  await eventually(() => queue.left(d), 'the estimates')
  const before = queue.leftOf([run('a', '2ssp', nearlyDone), b, c, d])?.likely ?? Number.NaN
  expect(before).toBeGreaterThan(200)
  // The run took twice as long as estimated. The next one begins, and has no progress yet.
  const begun = { ...b, status: 'running' } as RunEntry
  estimated = { b: 80, c: 80, d: 80 }
  queue.set(stateOf([begun, c, d]))
  const between = queue.leftOf([begun, c, d])?.likely ?? Number.NaN
  expect(Math.abs(Math.log2(between / before))).toBeLessThan(0.2)
  await eventually(() => (queue.left(c)?.likely ?? 0) > 79, 'the new estimates')
  const after = queue.leftOf([begun, c, d])?.likely ?? Number.NaN
  expect(after).toBeCloseTo(240, 6)
  expect(Math.abs(Math.log2(after / before))).toBeLessThan(0.2)
})

/** Connects the page's end of a socket, and returns a function that sends it a run as the workbench does. */
async function socketOfRuns(): Promise<(run: RunEntry, elsewhere?: boolean) => void> {
  const sockets: { onmessage?: (message: { data: string }) => void }[] = []
  class Socket {
    constructor() {
      sockets.push(this)
    }
  }
  vi.stubGlobal('WebSocket', Socket)
  vi.stubGlobal('location', { origin: 'http://localhost' })
  await connect()
  return (run, elsewhere) => sockets[0]?.onmessage?.({ data: JSON.stringify({ name: 'run changed', data: { run, elsewhere } }) })
}

test('the time left stays while a run ends and the next begins, before the list of runs says so', async () => {
  estimated = { e: 40, f: 40, g: 40 }
  const send = await socketOfRuns()
  followQueue()
  const nearlyDone: Progress = { phase: 'scoring', done: 19.9, total: 20, unit: 'parts', perSecond: 0.5, ratedFor: 40 }
  const [f, g] = [run('f', '2ssp'), run('g', '2ssp')]
  const runs = [run('e', '2ssp', nearlyDone), f, g]
  queue.set(stateOf(runs))
  await eventually(() => queue.left(f) && queue.left(g), 'the estimates')
  const [ofQueue, ofExperiment] = [
    () => queue.leftOf(queue.state?.runs ?? [], queue.state?.waiting)?.likely,
    // The page of an experiment counts its runs at other moments than the list does.
    () => queue.leftOf(queue.state?.runs ?? [], 2)?.likely,
  ]
  for (const left of [ofQueue, ofExperiment]) expect(left()).toBeCloseTo(80.2, 6)
  send({ ...run('e', '2ssp'), status: 'done' })
  for (const left of [ofQueue, ofExperiment]) expect(left()).toBeCloseTo(80, 6)
  send({ ...f, status: 'running' })
  for (const left of [ofQueue, ofExperiment]) expect(left()).toBeCloseTo(80, 6)
  send({ ...f, status: 'running', progress: { ...nearlyDone, done: 10, ratedFor: 20 } })
  for (const left of [ofQueue, ofExperiment]) expect(left()).toBeCloseTo(60, 6)
})

test('a run that ends has one notice, also if another process cancelled it; one cancelled here has none', async () => {
  const send = await socketOfRuns()
  followQueue()
  const { list: before } = notices
  const running = ['a', 'b', 'c'].map((id) => run(id, '2ssp', slow(1)))
  queue.set(stateOf(running))
  for (const [at, status, elsewhere] of [
    [0, 'cancelled', true],
    [0, 'cancelled', undefined],
    [1, 'cancelled', undefined],
    [2, 'done', true],
  ] as const)
    send({ ...(running[at] as RunEntry), status }, elsewhere)
  queue.set(stateOf([]))
  expect(notices.list.filter((notice) => !before.includes(notice)).map(({ text }) => text)).toEqual(['a: cancelled', 'c: done'])
})

test('a run that waits in a paused queue has no time left', async () => {
  estimated = { a: 40 }
  const waiting = run('a', '2ssp')
  queue.set(stateOf([waiting]))
  await eventually(() => queue.left(waiting), 'the estimates')
  expect(queue.leftOf([waiting])?.likely).toBe(40)
  queue.set({ ...stateOf([waiting]), paused: true })
  expect(queue.leftOf([waiting])).toBeNull()
})

test('a screen reader is told once that the queue was paused, stopped and resumed', () => {
  const quiet = stateOf([run('a', '2ssp')])
  queue.set(quiet)
  const spoken = (next: QueueState) => {
    clock += 1000
    vi.spyOn(performance, 'now').mockReturnValue(clock)
    const before = notices.spoken
    queue.set(next)
    return notices.spoken === before ? null : notices.spoken.trim()
  }
  let clock = performance.now() + 60_000
  expect(spoken({ ...quiet, paused: true })).toBe('Queue paused')
  expect(spoken({ ...quiet, paused: true })).toBeNull()
  expect(spoken(quiet)).toBe('Queue resumed')
  const stopped = { ...quiet, paused: true, stopped: { message: 'The library is missing.', runs: ['a'], since: 0 } }
  expect(spoken(stopped)).toBe('Queue stopped. The library is missing.')
  expect(spoken(stopped)).toBeNull()
  expect(spoken(quiet)).toBe('Queue resumed')
  vi.restoreAllMocks()
})
