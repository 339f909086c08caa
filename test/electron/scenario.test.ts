import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'

vi.mock('electron', () => import('./fake-electron.ts'))

import type { CallApi } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import type { DesktopBridge } from '#contract/machine/bridge.ts'
import type { Door } from '#server/door.ts'
import { startWindow } from '../../src-main/electron/start-window.ts'
import { findAgain, goThrough } from '../server/scenario.ts'
import { app, BrowserWindow, contextBridge, ipcMain, ipcRenderer } from './fake-electron.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'espalier-window-'))
  vi.stubEnv('ESPALIER_HOME', folder)
  await import('../../src-main/electron/preload.ts')
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await rm(folder, { recursive: true })
})

/** Starts the window and connects both ends of the fake's channels, so that the preload's bridge reaches the real workbench. */
async function openDoor(): Promise<Door & { quit(): Promise<void> }> {
  app.removeAllListeners()
  ipcMain.handlers.clear()
  app.done.length = 0
  await startWindow()
  const { webContents } = BrowserWindow.all.at(-1) as BrowserWindow
  webContents.send = (channel: unknown, reported: unknown) => void ipcRenderer.emit(channel as string, {}, structuredClone(reported))
  ipcRenderer.invoke = async (channel: unknown, ...given: unknown[]) => {
    const answer = ipcMain.handlers.get(channel as string) as unknown as (event: unknown, ...given: unknown[]) => Promise<{ value: string }>
    return structuredClone(await answer({ senderFrame: { url: 'espalier://app/', parent: null } }, ...given))
  }
  const bridge = contextBridge.exposed.espalier as DesktopBridge
  return {
    call: (async (name: string, input: unknown) => {
      const answer = await bridge.call(name, input)
      if ('error' in answer) throw new EspalierError(answer.error.code, answer.error.message, answer.error.details)
      return answer.value
    }) as CallApi,
    subscribe: (listener) => bridge.subscribe(listener),
    async quit() {
      app.emit('before-quit', { preventDefault: () => {} })
      await expect.poll(() => app.done).toContain('quit')
    },
  }
}

test('over the window’s channels: an experiment is made, watched, compared, talked to, and found again after a restart', {
  timeout: 300_000,
}, async () => {
  const first = await openDoor()
  const seen = await goThrough(first)
  await first.quit()
  const second = await openDoor()
  await findAgain(second, seen)
  await second.quit()
})
