import { beforeEach, expect, test, vi } from 'vitest'

vi.mock('electron', () => import('./fake-electron.ts'))

import type { App, Session } from 'electron'
import { hardenContents, hardenSession, isAllowedLink } from '../../src-main/electron/hardening.ts'
import { isOwnAddress } from '../../src-main/electron/origin.ts'
import { openWindow } from '../../src-main/electron/window.ts'
import { StoredState } from '../../src-main/electron/window-state.ts'
import { app, BrowserWindow, FakeContents, FakeSession, shell } from './fake-electron.ts'

let session: FakeSession
let contents: FakeContents

beforeEach(() => {
  app.removeAllListeners()
  shell.opened.length = 0
  session = new FakeSession()
  hardenSession(session as unknown as Session)
  hardenContents(app as unknown as App)
  contents = new FakeContents()
  app.emit('web-contents-created', {}, contents)
})

type Asker = (...given: unknown[]) => unknown
const asked = (name: string) => session.set[name] as Asker

test.each([
  'media',
  'geolocation',
  'notifications',
  'clipboard-read',
  'clipboard-sanitized-write',
  'fullscreen',
  'openExternal',
  'fileSystem',
  'display-capture',
  'usb',
])('the permission %s is denied when asked for and when looked up', (permission) => {
  let given: unknown
  asked('request')({}, permission, (allowed: boolean) => {
    given = allowed
  })
  expect(given).toBe(false)
  expect(asked('check')({}, permission)).toBe(false)
})

test('devices and screen capture are denied', () => {
  expect(asked('device')({ deviceType: 'hid' })).toBe(false)
  let streams: unknown
  asked('display')({}, (given: unknown) => {
    streams = given
  })
  expect(streams).toEqual({})
})

test.each([
  ['espalier://app/assets/main.js', false],
  ['blob:espalier://app/1234', false],
  ['data:image/png;base64,AA', false],
  ['data:text/html,<script>', true],
  ['https://example.com/', true],
  ['http://127.0.0.1:8600/', true],
  ['file:///etc/passwd', true],
  ['espalier://other/', true],
  ['ws://127.0.0.1/', true],
])('a request of the page for %s is cancelled: %s', (url, cancel) => {
  let decided: unknown
  asked('web')({ url }, (answer: unknown) => {
    decided = answer
  })
  expect(decided).toEqual({ cancel })
})

test.each(['will-navigate', 'will-frame-navigate', 'will-redirect'])('%s stays on our own pages', (event) => {
  const go = (url: string) => {
    let isStopped = false
    contents.emit(event, {
      url,
      preventDefault: () => {
        isStopped = true
      },
    })
    return isStopped
  }
  expect(go('espalier://app/#/runs')).toBe(false)
  for (const url of [
    'https://example.com',
    'file:///etc/passwd',
    'espalier://app.evil.example/',
    'espalier://app@evil.example/',
    'javascript:alert(1)',
    'espalier:app',
    'about:blank',
    '',
  ]) {
    expect(go(url), url).toBe(true)
  }
})

test('web views are refused and sessions made later are hardened too', () => {
  let isStopped = false
  contents.emit('will-attach-webview', {
    preventDefault: () => {
      isStopped = true
    },
  })
  expect(isStopped).toBe(true)
  const later = new FakeSession()
  app.emit('session-created', later)
  expect(Object.keys(later.set).sort()).toEqual(['check', 'device', 'display', 'request', 'web'])
})

test('a new window never opens; an allowed link goes to the browser instead', () => {
  expect(contents.openHandler?.({ url: 'https://arxiv.org/abs/2501.17771' })).toEqual({ action: 'deny' })
  expect(contents.openHandler?.({ url: 'https://example.com/' })).toEqual({ action: 'deny' })
  expect(shell.opened).toEqual(['https://arxiv.org/abs/2501.17771'])
})

test.each([
  'http://arxiv.org/',
  'https://arxiv.org.evil.example/',
  'https://arxiv.org@evil.example/',
  'https://user@arxiv.org/',
  'https://arxiv.org:8443/',
  'file:///bin/sh',
  'javascript:1',
  'smb://arxiv.org/',
  '',
])('the link %s is not opened', (address) => expect(isAllowedLink(address)).toBe(false))

test('only espalier://app is our own', () => {
  expect(['espalier://app/', 'espalier://app', 'espalier://app/x?y#z'].map(isOwnAddress)).toEqual([true, true, true])
  expect(['espalier://app:80/', 'espalier://apple/', 'https://app/', 'espalier://user@app/', 'x'].map(isOwnAddress)).toEqual([
    false,
    false,
    false,
    false,
    false,
  ])
})

test('the window is isolated, sandboxed and has no Node', () => {
  openWindow('/preload.cjs', new StoredState('/nowhere/window.json'))
  const window = BrowserWindow.all.at(-1)
  expect(window?.options.webPreferences).toMatchObject({
    contextIsolation: true,
    sandbox: true,
    nodeIntegration: false,
    nodeIntegrationInWorker: false,
    nodeIntegrationInSubFrames: false,
    webSecurity: true,
    webviewTag: false,
    preload: '/preload.cjs',
  })
  expect(window?.loaded).toEqual(['espalier://app/'])
})
