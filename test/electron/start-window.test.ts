import { beforeEach, expect, test, vi } from 'vitest'

vi.mock('electron', () => import('./fake-electron.ts'))
vi.mock('../../src-main/electron/local-workbench.ts', () => ({
  openLocalWorkbench: async () => ({ ...makeFakeDoor({ 'models.list': () => ['here'] }), close: async () => void closed.push('here') }),
}))

import { startWindow } from '../../src-main/electron/start-window.ts'
import { makeFakeDoor } from '../server/fake-door.ts'
import { runServer } from '../server/running.ts'
import { app, BrowserWindow, dialog, ipcMain, Menu, session } from './fake-electron.ts'

const closed = vi.hoisted(() => [] as string[])

beforeEach(() => {
  app.removeAllListeners()
  ipcMain.handlers.clear()
  app.done.length = closed.length = dialog.shown.length = 0
  app.switches = {}
})

function callModels(): Promise<unknown> {
  const answer = ipcMain.handlers.get('espalier:call') as unknown as (event: unknown, ...given: unknown[]) => Promise<unknown>
  return answer({ senderFrame: { url: 'espalier://app/', parent: null } }, 'models.list', {})
}

test('the window opens over the workbench here, hardened and with its menu', async () => {
  await startWindow()
  expect(BrowserWindow.all.at(-1)?.loaded).toEqual(['espalier://app/'])
  expect(Object.keys(session.defaultSession.set)).toHaveLength(5)
  expect(session.defaultSession.protocol.schemes.has('espalier')).toBe(true)
  expect(Menu.template.length).toBeGreaterThan(4)
  expect(await callModels()).toEqual({ value: ['here'] })
})

test('quitting waits for the workbench to close, then quits once', async () => {
  await startWindow()
  await callModels()
  let stopped = 0
  const quit = () => app.emit('before-quit', { preventDefault: () => stopped++ })
  quit()
  await expect.poll(() => app.done).toContain('quit')
  quit()
  expect([stopped, closed]).toEqual([1, ['here']])
})

test('a second start shows the window of the first', async () => {
  await startWindow()
  const window = BrowserWindow.all.at(-1)
  app.emit('second-instance')
  expect([window?.shown, window?.focused]).toEqual([1, true])
})

test('--attach sends the calls elsewhere; a missing server is reported, and the window still opens', async () => {
  const server = await runServer(makeFakeDoor({ 'models.list': () => ['elsewhere'] }))
  app.switches = { attach: `${server.address}#token=${server.token}` }
  await startWindow()
  expect(await callModels()).toEqual({ value: ['elsewhere'] })
  await server.stop()
  ipcMain.handlers.clear()
  app.switches = { attach: 'http://127.0.0.1:1/#token=x' }
  await startWindow()
  expect(dialog.shown).toEqual([expect.objectContaining({ message: 'Not attached' })])
  expect(await callModels()).toEqual({ value: ['here'] })
})
