import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { isStale, withLock } from '../../src-main/runtime/lock.mjs'
import { scratchFolder } from '../setup/scratch.ts'

/** The id of a process that has ended. */
const deadProcess = spawnSync(process.execPath, ['--version']).pid

const lockOf = (folder: string, owner: object) => {
  const path = join(folder, 'setup.lock')
  writeFileSync(path, JSON.stringify({ processId: process.ppid, host: hostname(), token: 'other', children: [], ...owner }))
  return path
}

function age(path: string, seconds: number): string {
  const then = new Date(Date.now() - seconds * 1000)
  utimesSync(path, then, then)
  return path
}

test.each([
  ['of a running process holds', {}, 0, false],
  ['of a running process that has not touched it for two minutes is stale', {}, 120, true],
  ['of a process that has ended is stale', { processId: deadProcess }, 0, true],
  ['of an earlier process with the number of this one is stale', { processId: process.pid }, 0, true],
  ['of an ended process whose npm still runs holds', { processId: deadProcess, children: [process.pid] }, 120, false],
  ['of an ended process whose npm has ended too is stale', { processId: deadProcess, children: [deadProcess] }, 0, true],
  ['of another machine, touched just now, holds', { processId: deadProcess, host: 'elsewhere' }, 0, false],
  ['of another machine, not touched for two minutes, is stale', { host: 'elsewhere' }, 120, true],
  ['of another machine, touched an hour ahead of a clock that was set back, is stale', { host: 'elsewhere' }, -3600, true],
  ['of a living process here, touched ahead of a clock that was set back, is not', {}, -3600, false],
])('a lock %s', (_title, owner, seconds, stale) => {
  expect(isStale(age(lockOf(scratchFolder(), owner), seconds))).toBe(stale)
})

test('a lock that was being written when its owner died becomes stale', () => {
  const path = lockOf(scratchFolder(), {})
  writeFileSync(path, '')
  expect(isStale(path)).toBe(false)
  expect(isStale(age(path, 120))).toBe(true)
})

test('what a killed set-up left is taken over, and the lock is gone afterwards', async () => {
  const path = lockOf(scratchFolder(), { processId: deadProcess })
  const seen = await withLock(path, async () => JSON.parse(readFileSync(path, 'utf8')).processId)
  expect(seen).toBe(process.pid)
  expect(existsSync(path)).toBe(false)
})

test('the second of two concurrent holders waits for the first', async () => {
  const path = join(scratchFolder(), 'setup.lock')
  const order: string[] = []
  const work = (name: string) =>
    withLock(path, async () => {
      order.push(`${name} begins`)
      await pause(100)
      order.push(`${name} ends`)
    })
  await Promise.all([work('first'), work('second')])
  expect(order).toEqual(['first begins', 'first ends', 'second begins', 'second ends'])
})

test('failing work releases the lock', async () => {
  const path = join(scratchFolder(), 'setup.lock')
  await expect(withLock(path, () => Promise.reject(new Error('no disk')))).rejects.toThrow('no disk')
  expect(existsSync(path)).toBe(false)
})

test('waiting for a lock is reported once and can be given up', async () => {
  const path = lockOf(scratchFolder(), {})
  const controller = new AbortController()
  const reported: unknown[] = []
  const waiting = withLock(path, async () => 'done', { signal: controller.signal, onWait: (owner) => void reported.push(owner?.processId) })
  await expect.poll(() => reported.length).toBe(1)
  // Long enough for a second look.
  await pause(700)
  controller.abort()
  await expect(waiting).rejects.toThrow('abort')
  expect(reported).toEqual([process.ppid])
  expect(existsSync(path)).toBe(true)
})
