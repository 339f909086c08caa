import { beforeEach, expect, test, vi } from 'vitest'

vi.mock('electron', () => import('./fake-electron.ts'))

import type { BrowserWindow as RealWindow } from 'electron'
import { EspalierError } from '#contract/errors.ts'
import type { ApiEvent } from '#contract/events.ts'
import type { BridgeAnswer, DesktopBridge } from '#contract/machine/bridge.ts'
import { openBridge } from '../../src-main/electron/bridge.ts'
import { channels } from '../../src-main/electron/channels.ts'
import { DoorSwitch } from '../../src-main/electron/door-switch.ts'
import { makeFakeDoor } from '../server/fake-door.ts'
import { runServer } from '../server/running.ts'
import { BrowserWindow, clipboard, contextBridge, dialog, ipcMain, ipcRenderer, shell } from './fake-electron.ts'

const removed: ApiEvent = { name: 'model removed', data: { id: 'abc' } }
const failing = () => {
  throw new EspalierError('conflict', 'In use.', { runs: 3 })
}

let local: ReturnType<typeof makeFakeDoor>
let door: DoorSwitch
let window: BrowserWindow
let kept: string | undefined

beforeEach(() => {
  ipcMain.handlers.clear()
  local = makeFakeDoor({ 'models.list': () => [], 'models.remove': failing })
  door = new DoorSwitch(async () => ({ ...local, close: async () => {} }))
  window = new BrowserWindow()
  openBridge(door, window as unknown as RealWindow, {
    get: async () => kept,
    set: async (value) => {
      kept = value
    },
  })
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

test('every channel except that of events is open', () => {
  const expected = Object.values(channels).filter((channel) => channel !== channels.event)
  expect([...ipcMain.handlers.keys()].sort()).toEqual(expected.sort())
})

test('events reach the page', async () => {
  await invoke(channels.call, ['models.list', {}])
  local.tell(removed)
  expect(window.webContents.sent).toEqual([[channels.event, removed]])
})

test('a folder is chosen in the system’s dialog, or not', async () => {
  expect(await invoke(channels.chooseFolder)).toEqual({ value: null })
  dialog.answer = { canceled: false, filePaths: ['/models/one'] }
  expect(await invoke(channels.chooseFolder)).toEqual({ value: '/models/one' })
})

test('text is copied, allowed links are opened, others are refused', async () => {
  await invoke(channels.copyText, ['leaf'])
  expect(clipboard.text).toBe('leaf')
  expect(await invoke(channels.openLink, ['https://arxiv.org/abs/2403.03853'])).toEqual({ value: null })
  expect(await invoke(channels.openLink, ['file:///bin/sh'])).toMatchObject({ error: { code: 'invalid' } })
  expect(shell.opened).toEqual(['https://arxiv.org/abs/2403.03853'])
})

test('attached, calls and events come from the server elsewhere; detached, from here again', async () => {
  const server = await runServer(makeFakeDoor({ 'models.list': () => ['elsewhere'] }))
  await invoke(channels.call, ['models.list', {}])
  const line = `${server.address}#token=${server.token}`
  expect(await invoke(channels.attach, [line])).toEqual({ value: { address: server.address, up: true, inClear: false } })
  expect(kept).toBe(line)
  expect(await invoke(channels.call, ['models.list', {}])).toEqual({ value: ['elsewhere'] })
  local.tell(removed)
  expect(window.webContents.sent).toEqual([])
  const reported = () => {
    server.door.tell(removed)
    return window.webContents.sent.length
  }
  await expect.poll(reported).toBeGreaterThan(0)
  expect(await invoke(channels.detach)).toEqual({ value: null })
  expect(kept).toBeUndefined()
  expect(await invoke(channels.call, ['models.list', {}])).toEqual({ value: [] })
  await server.stop()
})

test('attaching where no server answers changes nothing', async () => {
  expect(await invoke(channels.attach, ['http://127.0.0.1:1/#token=x'])).toMatchObject({ error: { code: 'unreachable' } })
  expect(await invoke(channels.connection)).toEqual({ value: null })
  expect(kept).toBeUndefined()
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
