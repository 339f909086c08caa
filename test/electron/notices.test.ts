import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, test, vi } from 'vitest'

vi.mock('electron', () => import('./fake-electron.ts'))

import type { App, BrowserWindow as RealWindow } from 'electron'
import type { ApiEvent } from '#contract/events.ts'
import { watchCrashes } from '../../src-main/electron/crash-notices.ts'
import { watchRuns } from '../../src-main/electron/run-notices.ts'
import { makeSecret } from '../../src-main/electron/secrets.ts'
import { makeFakeDoor } from '../server/fake-door.ts'
import { app, BrowserWindow, dialog, Notification, safeStorage } from './fake-electron.ts'

let window: BrowserWindow

beforeEach(() => {
  app.removeAllListeners()
  app.done.length = 0
  dialog.shown.length = 0
  Notification.shown.length = 0
  window = new BrowserWindow()
})

const changed = (id: string, status: string, done = 0): ApiEvent =>
  ({
    name: 'run changed',
    data: { run: { id, name: `run ${id}`, status, progress: { done, total: 10 }, problem: null } },
  }) as unknown as ApiEvent

function watched(notifyWhenDone = true) {
  const door = makeFakeDoor({ 'settings.get': () => ({ notifyWhenDone }) })
  watchRuns(door, window as unknown as RealWindow)
  return door
}

test('the taskbar shows the mean of the running runs and clears when none is left', () => {
  const door = watched()
  door.tell(changed('one', 'running', 5))
  door.tell(changed('two', 'running', 0))
  door.tell(changed('two', 'cancelled'))
  door.tell(changed('one', 'done', 10))
  expect(window.bars).toEqual([0.5, 0.25, 0.5, -1])
})

test('a run that ends out of sight gives one notice, and one that was only viewed gives none', async () => {
  const door = watched()
  door.tell(changed('old', 'done'))
  door.tell(changed('one', 'running'))
  door.tell(changed('one', 'failed'))
  door.tell(changed('one', 'failed'))
  await expect.poll(() => Notification.shown).toEqual([{ title: 'Run failed', body: 'run one' }])
})

test('no notice appears while the window has the focus, or when notices are off', async () => {
  const quiet = watched(false)
  quiet.tell(changed('one', 'running'))
  quiet.tell(changed('one', 'done'))
  window.focused = true
  const door = watched()
  door.tell(changed('two', 'running'))
  door.tell(changed('two', 'done'))
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(Notification.shown).toEqual([])
})

test('a crashed page is reloaded with a notice, until the third crash within a minute', () => {
  watchCrashes(app as unknown as App, window as unknown as RealWindow)
  const crash = () => window.webContents.emit('render-process-gone', {}, { reason: 'oom', exitCode: 5 })
  crash()
  expect([window.webContents.reloads, dialog.shown]).toEqual([
    1,
    [expect.objectContaining({ detail: expect.stringContaining('ran out of memory') })],
  ])
  crash()
  crash()
  crash()
  expect([window.webContents.reloads, app.done]).toEqual([3, ['quit']])
})

test('a secret is stored encrypted, and not at all without a key store', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'espalier-secret-'))
  const file = join(folder, 'attached')
  await makeSecret(file).set('http://box/#token=abc')
  expect((await readFile(file)).toString('latin1')).not.toContain('token')
  expect(await makeSecret(file).get()).toBe('http://box/#token=abc')
  safeStorage.backend = 'basic_text'
  const unkept = makeSecret(file)
  await unkept.set('other')
  if (process.platform === 'linux') {
    expect(await unkept.get()).toBe('other')
    expect(await makeSecret(file).get()).toBeUndefined()
  }
  await rm(folder, { recursive: true })
})
