import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, expect, test, vi } from 'vitest'

vi.mock('electron', () => import('./fake-electron.ts'))

import type { BrowserWindow as RealWindow } from 'electron'
import { EspalierError } from '#contract/errors.ts'
import type { ApiEvent } from '#contract/events.ts'
import type { BridgeAnswer, DesktopBridge } from '#contract/machine/bridge.ts'
import { openBridge } from '../../src-main/electron/bridge.ts'
import { channels } from '../../src-main/electron/channels.ts'
import { PageCommands } from '../../src-main/electron/page-commands.ts'
import { StoredState } from '../../src-main/electron/window-state.ts'
import { makeFakeDoor } from '../server/fake-door.ts'
import { BrowserWindow, clipboard, contextBridge, dialog, ipcMain, ipcRenderer, nativeTheme, shell } from './fake-electron.ts'

const removed: ApiEvent = { name: 'model removed', data: { id: 'abc' } }
const failing = () => {
  throw new EspalierError('conflict', 'In use.', { runs: 3 })
}

let local: ReturnType<typeof makeFakeDoor>
let window: BrowserWindow
let stored: StoredState

beforeEach(() => {
  ipcMain.handlers.clear()
  local = makeFakeDoor({ 'models.list': () => [], 'models.remove': failing })
  window = new BrowserWindow()
  stored = new StoredState(join(tmpdir(), `espalier-bridge-${process.pid}.json`))
  openBridge(local, window as unknown as RealWindow, stored)
  new PageCommands(window as unknown as RealWindow)
})

interface Frame {
  url: string
  parent: Frame | null
}

const own: Frame = { url: 'espalier://app/#/runs', parent: null }

function invoke(channel: string, given: unknown[] = [], senderFrame: Frame | null = own): Promise<BridgeAnswer> {
  const answer = ipcMain.handlers.get(channel) as unknown as (event: unknown, ...given: unknown[]) => Promise<BridgeAnswer>
  return answer({ senderFrame }, ...given)
}

test('a call goes to the workbench, an error comes back whole', async () => {
  expect(await invoke(channels.call, ['models.list', {}])).toEqual({ value: [] })
  expect(await invoke(channels.call, ['models.remove', { id: 'abc' }])).toEqual({
    error: { code: 'conflict', message: 'In use.', details: { runs: 3 } },
  })
})

test('a call is cancelled by its id', async () => {
  local.answers['models.list'] = (_, signal) =>
    new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))
  const [first, second] = ['first', 'second'].map((id) => invoke(channels.call, ['models.list', {}, id]))
  expect(await invoke(channels.cancel, ['second'])).toEqual({ value: null })
  expect(await second).toMatchObject({ error: { code: 'cancelled' } })
  const settled = vi.fn()
  void first?.then(settled)
  expect(await invoke(channels.cancel, ['second'])).toEqual({ value: null })
  expect(settled).not.toHaveBeenCalled()
})

test.each([
  [null],
  [{ url: 'https://example.com/', parent: null }],
  [{ url: 'espalier://other/', parent: null }],
  [{ url: 'about:blank', parent: null }],
  [{ url: 'espalier://app/', parent: own }],
])('every channel refuses the frame %j', async (frame) => {
  for (const channel of ipcMain.handlers.keys()) {
    expect(await invoke(channel, ['models.list', {}], frame), channel).toMatchObject({ error: { code: 'invalid' } })
  }
  expect(local.asked).toEqual([])
})

test.each(['constructor', '__proto__', 'toString', 'models.list\u0000', '', 1, null, undefined, {}])(
  'the call %j does not exist',
  async (name) => {
    expect(await invoke(channels.call, [name, {}])).toHaveProperty('error')
    expect(local.asked).toEqual([])
  },
)

afterAll(() => rmSync(join(tmpdir(), `espalier-bridge-${process.pid}.json`), { force: true }))

test('every channel except those to the page is open', () => {
  const expected = Object.values(channels).filter((channel) => channel !== channels.event && channel !== channels.command)
  expect([...ipcMain.handlers.keys()].sort()).toEqual(expected.sort())
})

test('events reach the page', () => {
  local.tell(removed)
  expect(window.webContents.sent).toEqual([[channels.event, removed]])
})

test('a folder is chosen in the system’s dialog, or not', async () => {
  expect(await invoke(channels.chooseFolder)).toEqual({ value: null })
  dialog.answer = { canceled: false, filePaths: ['/models/one'] }
  expect(await invoke(channels.chooseFolder)).toEqual({ value: '/models/one' })
})

test('a menu of the page is the system’s, and says what was chosen', async () => {
  expect(await invoke(channels.showMenu, [[{ label: 'Open' }, { label: 'Archive' }]])).toEqual({ value: 1 })
  expect(await invoke(channels.showMenu, [[{ label: 5 }]])).toMatchObject({ error: { code: 'invalid' } })
})

test('the window takes the page’s theme, and remembers it', async () => {
  expect(await invoke(channels.setTheme, ['dark'])).toEqual({ value: null })
  expect([nativeTheme.themeSource, stored.value.theme]).toEqual(['dark', 'dark'])
  expect(await invoke(channels.setTheme, ['pink'])).toHaveProperty('error')
})

test('only a file that is on this machine is shown in the file manager', async () => {
  expect(await invoke(channels.showInFolder, [import.meta.filename])).toEqual({ value: null })
  for (const path of ['relative.txt', '//server/share', '\\\\server\\share', '/not/there'])
    expect(await invoke(channels.showInFolder, [path]), path).toMatchObject({ error: { code: 'not-found' } })
  expect(shell.shown).toEqual([import.meta.filename])
})

test('text is copied, allowed links are opened, others are refused', async () => {
  await invoke(channels.copyText, ['leaf'])
  expect(clipboard.text).toBe('leaf')
  expect(await invoke(channels.openLink, ['https://arxiv.org/abs/2403.03853'])).toEqual({ value: null })
  expect(await invoke(channels.openLink, ['file:///bin/sh'])).toMatchObject({ error: { code: 'invalid' } })
  expect(shell.opened).toEqual(['https://arxiv.org/abs/2403.03853'])
})

test('the preload exposes only functions, and never the event of a message', async () => {
  await import('../../src-main/electron/preload.ts')
  const bridge = contextBridge.exposed.espalier as DesktopBridge
  expect(Object.keys(contextBridge.exposed)).toEqual(['espalier'])
  expect(Object.values(bridge).every((value) => typeof value === 'function')).toBe(true)
  await bridge.call('models.list', {})
  expect(ipcRenderer.invoked.at(-1)).toEqual([channels.call, 'models.list', {}])
  expect(bridge.pathOf(new File([], 'a model'))).toBe('/dropped/a model')
  const reported: unknown[][] = []
  const stop = bridge.subscribe((...given) => reported.push(given))
  ipcRenderer.emit(channels.event, { sender: 'secret' }, removed)
  stop()
  ipcRenderer.emit(channels.event, { sender: 'secret' }, removed)
  expect(reported).toEqual([[removed]])
})
