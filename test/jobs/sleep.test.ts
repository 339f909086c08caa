import { spawn } from 'node:child_process'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openHistory } from '#db/history.ts'
import { eventually } from '../eventually.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { fakeCompute, heldRun, oneRun, openedWorkbench } from '../services/opened.ts'
import { printed } from './kill-checks.ts'

/** Longer than the silence after which the process counts as hung, and than a timer may be late. */
const sleepMilliseconds = 6000

test.skipIf(process.platform === 'win32')('a run continues after the computer slept', async () => {
  const first = await openedWorkbench()
  await first.call('queue.pause', {})
  const { options, letGo } = heldRun(first)
  const { id } = await oneRun(first, options)
  await first.call('queue.resume', {})
  await first.close()
  const main = spawn(process.execPath, [join(import.meta.dirname, 'main-to-stop.ts'), first.folder, ...fakeCompute], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const group = -(main.pid as number)
  const history = openHistory(first.folder)
  try {
    await printed(main, 'up')
    await eventually(() => history.steps.count(id) >= 3, 'three steps')
    process.kill(group, 'SIGSTOP')
    await pause(sleepMilliseconds)
    process.kill(group, 'SIGCONT')
    letGo()
    await eventually(() => history.runs.find(id)?.status === 'done', 'the end of the run')
    expect(history.runs.find(id)).toMatchObject({ attempts: expect.any(Number), crashes: 0, problem: null })
    expect(history.steps.count(id)).toBe(8)
  } finally {
    history.close()
    process.kill(group, 'SIGKILL')
  }
})

test('a process that was stopped does not take others for dead that were stopped too, only those that are gone', () => {
  const folder = scratchOfTest('test')
  const history = openHistory(folder)
  const [now, before] = [Date.now(), Date.now() - 3_600_000]
  for (const owner of ['owner-me', 'owner-other']) history.owners.register(owner, before)
  const insert = history.db.prepare('INSERT INTO owners(id, pid, host, started_at, heartbeat_at, works_queue) VALUES (?, ?, ?, ?, ?, 1)')
  insert.run('owner-gone', 2 ** 22 + 1, hostname(), before, before)
  history.owners.keep('owner-me', now)
  expect(history.owners.dead(now).toSorted()).toEqual(['owner-gone', 'owner-other'])
  history.owners.patientUntil = now + 60_000
  expect(history.owners.dead(now)).toEqual(['owner-gone'])
  expect(history.owners.takeQueue('owner-me', now)).toBe(true)
  history.close()
})
