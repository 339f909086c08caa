import { afterEach, expect, test, vi } from 'vitest'
import { eventually } from '../eventually.ts'
import { heldRun, oneRun, openedWorkbench, runEnded } from './opened.ts'

const real = Date.now
let ahead = 0

/** Sets the clock of the workbench this much ahead of the right time. */
function setClock(milliseconds: number): void {
  ahead = milliseconds
  vi.spyOn(Date, 'now').mockImplementation(() => real() + ahead)
}

afterEach(() => {
  vi.restoreAllMocks()
  ahead = 0
})

const [hour, day] = [3_600_000, 86_400_000]

test.each([
  ['ahead by a day', 0, day],
  ['back by a day', day, 0],
  ['back by an hour, as when summer time ends in a computer that keeps local time', 0, -hour],
])('a run keeps its true duration and its owner when the clock is set %s, and the queue continues', async (_, before, after) => {
  setClock(before)
  await using workbench = await openedWorkbench()
  const { call } = workbench
  const { options, letGo } = heldRun(workbench)
  const begun = performance.now()
  const { id } = await oneRun(workbench, options)
  await eventually(async () => (await call('runs.get', { id })).stepsDone >= 3, 'three steps')
  setClock(after)
  // Two turns of the look at other processes, which happens twice a second.
  await eventually(async () => performance.now() - begun > 1500 && (await call('queue.get', {})).owner, 'the owner of the queue')
  expect((await call('runs.get', { id })).status).toBe('running')
  letGo()
  const run = await runEnded(workbench, id)
  expect(run).toMatchObject({ status: 'done', attempts: 1, problem: null })
  expect(run.seconds).toBeGreaterThan(0)
  expect(run.seconds).toBeLessThan((performance.now() - begun) / 1000)
  const next = await oneRun(workbench, {}, 1)
  expect((await runEnded(workbench, next.id)).status).toBe('done')
})

test('what ended under a clock that was ahead is not in the last hour for days', async () => {
  setClock(2 * day)
  await using workbench = await openedWorkbench()
  const { call } = workbench
  const ahead = await oneRun(workbench)
  await runEnded(workbench, ahead.id)
  setClock(0)
  const now = await oneRun(workbench, {}, 1)
  await runEnded(workbench, now.id)
  const { options, letGo } = heldRun(workbench)
  const running = await oneRun(workbench, options, 2)
  await eventually(async () => (await call('runs.get', { id: running.id })).status === 'running', 'the held run')
  // Of the runs since the first that is under way, none has ended.
  expect(await call('queue.get', {})).toMatchObject({ endedLastHour: 1, ended: 0 })
  letGo()
  await runEnded(workbench, running.id)
})
