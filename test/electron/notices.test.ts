import { beforeEach, expect, test, vi } from 'vitest'

vi.mock('electron', () => import('./fake-electron.ts'))

import type { BrowserWindow as RealWindow } from 'electron'
import type { ApiEvent } from '#contract/events.ts'
import type { DesktopCommand } from '#contract/machine/bridge.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import type { PageCommands } from '../../src-main/electron/page-commands.ts'
import { watchRuns } from '../../src-main/electron/run-notices.ts'
import { makeFakeDoor } from '../server/fake-door.ts'
import { BrowserWindow, Notification } from './fake-electron.ts'

let window: BrowserWindow
const sent: DesktopCommand[] = []

beforeEach(() => {
  Notification.shown.length = sent.length = 0
  window = new BrowserWindow()
})

const runOf = (id: string, status: string, progress: unknown = null, problem: string | null = null) =>
  ({
    id,
    name: `run ${id}`,
    status,
    progress,
    problem: problem && { message: problem },
    experiment: { id: 'exp', name: 'Mine' },
  }) as unknown as RunEntry
const changed = (id: string, status: string, problem: string | null = null): ApiEvent => ({
  name: 'run changed',
  data: { run: runOf(id, status, null, problem) },
})
const queued = (running: string[], waiting: number): ApiEvent =>
  ({
    name: 'queue changed',
    data: { queue: { paused: false, waiting, runs: running.map((id) => runOf(id, 'running')) } },
  }) as unknown as ApiEvent
const reported = (run: string, phase: string, done: number): ApiEvent =>
  ({
    name: 'run event',
    data: { run, recorded: { event: { type: 'progress', progress: { phase, done, total: 10, unit: '' } } } },
  }) as unknown as ApiEvent

const phases = [
  { phase: 'first', part: 'first', seconds: 30 },
  { phase: 'second', part: 'second', seconds: 10 },
]
const estimate = (run: string) => ({ run, phases, seconds: { low: 30, likely: 40, high: 50 }, basis: 'machine' })

function watched(notifyWhenDone = true, estimates: unknown[] = []) {
  const door = makeFakeDoor({ 'settings.get': () => ({ notifyWhenDone }), 'queue.estimates': () => estimates })
  const commands = { send: (command: DesktopCommand) => void sent.push(command) }
  watchRuns(door, window as unknown as RealWindow, commands as unknown as PageCommands)
  return door
}

test('the taskbar follows the progress that a run reports, and clears when the queue is empty', () => {
  window.focused = true
  const door = watched()
  door.tell(queued(['one'], 1))
  door.tell(changed('one', 'running'))
  door.tell(reported('one', 'first', 5))
  expect(window.bars.at(-1)).toBe(0.25)
  door.tell(changed('one', 'done'))
  door.tell(queued(['two'], 0))
  door.tell(changed('two', 'running'))
  door.tell(reported('two', 'first', 5))
  expect(window.bars.at(-1)).toBe(0.75)
  door.tell(changed('two', 'cancelled'))
  door.tell(queued([], 0))
  expect(window.bars.at(-1)).toBe(-1)
})

test('with an estimate, a run’s share is that of its time, not of its phase', async () => {
  const door = watched(true, [estimate('one')])
  door.tell(changed('one', 'running'))
  door.tell(queued(['one'], 0))
  door.tell(reported('one', 'first', 10))
  await expect.poll(() => window.bars.at(-1)).toBe(0.75)
  door.tell(reported('one', 'second', 5))
  expect(window.bars.at(-1)).toBe(0.875)
})

test('runs that end together out of sight give one notification, which opens what they have in common', async () => {
  const door = watched()
  door.tell(changed('old', 'done'))
  for (const id of ['one', 'two', 'three']) door.tell(changed(id, 'running'))
  door.tell(changed('one', 'done'))
  door.tell(changed('two', 'failed', 'no memory'))
  door.tell(changed('three', 'done'))
  await expect.poll(() => Notification.shown, { timeout: 5000 }).toHaveLength(1)
  const [notice] = Notification.shown as [Notification]
  expect(notice.options).toEqual({ title: '2 runs finished, 1 failed', body: 'run two: no memory, and 2 others' })
  notice.emit('click')
  expect(sent).toEqual([{ name: 'go', hash: '#/experiments/exp' }])
  expect([window.shown, window.focused]).toEqual([1, true])
})

test('the notification of one run opens it', async () => {
  const door = watched()
  door.tell(changed('one', 'running'))
  door.tell(changed('one', 'done'))
  await expect
    .poll(() => Notification.shown.map(({ options }) => options), { timeout: 5000 })
    .toEqual([{ title: 'Run finished', body: 'run one' }])
  Notification.shown[0]?.emit('click')
  expect(sent).toEqual([{ name: 'go', hash: '#/run/one' }])
})

test('no notification if the user has turned them off or is looking', async () => {
  const off = watched(false)
  off.tell(changed('one', 'running'))
  off.tell(changed('one', 'done'))
  await expect.poll(() => off.asked, { timeout: 5000 }).toContainEqual(expect.objectContaining({ name: 'settings.get' }))
  window.focused = true
  const looking = watched()
  looking.tell(changed('two', 'running'))
  looking.tell(changed('two', 'done'))
  expect(Notification.shown).toEqual([])
})
