import { cp, mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { timedMachine } from '../e2e/timed-machine.ts'
import { eventually } from '../eventually.ts'

import { referenceModel } from '../fixtures/reference.ts'
import { openedBy, visibleWindows } from './desktop.ts'
import { clickMenu, type OpenWindow, openWindow } from './open-window.ts'

let opened: OpenWindow

beforeAll(async () => {
  opened = await openWindow({ prepare: timedMachine })
})

afterAll(() => opened?.close())

async function expectScreen(name: string): Promise<void> {
  await opened.page.getByRole('heading', { level: 1, name }).waitFor()
  await expect.poll(() => opened.page.getByRole('heading', { level: 1 }).count()).toBe(1)
}

test('it opens on the local workbench, its page has nothing of Node, and reports of crashes stay on this machine', async () => {
  await expectScreen('Models')
  const seen = await opened.page.evaluate(() => ({
    address: location.href,
    kinds: ['process', 'require', 'module', 'Buffer'].map((name) => typeof (window as unknown as Record<string, unknown>)[name]),
  }))
  expect(seen.address).toMatch(/^espalier:\/\/app\//)
  expect(new Set(seen.kinds)).toEqual(new Set(['undefined']))
  expect((await opened.call('models.list', {})).map(({ name }) => name)).toEqual(['Sample model'])
  expect(await opened.app.evaluate(({ crashReporter }) => crashReporter.getUploadToServer())).toBe(false)
})

test('the menu goes to every screen, by its entry and by its keys', async () => {
  await clickMenu(opened, 'Go', 'Runs')
  await expectScreen('Runs')
  await opened.desktop.run('xdotool', 'key', 'ctrl+1')
  await expectScreen('Models')
})

test('a second start shows the first window and ends', async () => {
  await opened.app.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.minimize())
  const isMinimized = () => opened.app.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.isMinimized())
  await eventually(isMinimized, 'the minimised window')
  expect(await opened.startAgain()).toBe(0)
  await eventually(async () => !(await isMinimized()), 'the restored window')
})

test('a folder is looked for in the system’s dialog, and cancelling it changes nothing', async () => {
  const { page, desktop } = opened
  await page.getByRole('button', { name: 'Add a model' }).first().click()
  const dialog = page.getByRole('dialog', { name: 'Add a model' })
  const chooser = await openedBy(desktop, () => dialog.getByRole('button', { name: 'Folder …' }).click())
  // GTK ignores keys until it has drawn the dialog.
  await eventually(async () => {
    await desktop.run('xdotool', 'windowactivate', chooser, 'key', 'Escape').catch(() => undefined)
    return !(await visibleWindows(desktop)).includes(chooser)
  }, 'the end of the dialog')
  await expect.poll(() => dialog.getByRole('textbox', { name: /Safetensors folder/ }).inputValue()).toBe('')
  await dialog.getByRole('button', { name: 'Cancel' }).click()
})

test('a folder that is dropped on the window is named by its path', async () => {
  const { page } = opened
  const folder = await copyModel()
  const box = (await page.getByRole('heading', { level: 1, name: 'Models' }).boundingBox()) ?? { x: 0, y: 0 }
  const protocol = await page.context().newCDPSession(page)
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const)
    await protocol.send('Input.dispatchDragEvent', {
      type,
      x: box.x + 5,
      y: box.y + 5,
      data: { items: [], files: [folder], dragOperationsMask: 1 },
    })
  const dialog = page.getByRole('dialog', { name: 'Add a model' })
  await dialog.getByText('Fits this machine: its weights need 1.04 MB').waitFor()
  await expect.poll(() => dialog.getByRole('textbox', { name: /Safetensors folder/ }).inputValue()).toBe(folder)
  await dialog.getByRole('button', { name: 'Cancel' }).click()
})

test('links of the screens open in the browser, and nothing else leads out of the window', async () => {
  const { app, page } = opened
  await app.evaluate(({ shell }) => {
    const asked: string[] = []
    Object.assign(globalThis, { asked })
    shell.openExternal = async (address) => void asked.push(address)
  })
  const refused = await page.evaluate(async () => {
    const kinds = ['https://example.com/', 'file:///etc/passwd', 'http://127.0.0.1:9/', 'https://arxiv.org/abs/2501.17771']
    const opened = kinds.map((address) => window.open(address) !== null)
    const request = await fetch('https://example.com/').then(
      () => 'answered',
      () => 'refused',
    )
    const { state } = await navigator.permissions.query({ name: 'geolocation' })
    return { opened, request, state }
  })
  expect(refused).toEqual({ opened: [false, false, false, false], request: 'refused', state: 'denied' })
  expect(page.url()).toMatch(/^espalier:\/\/app\//)
  expect(await app.evaluate(() => (globalThis as unknown as { asked: string[] }).asked)).toEqual(['https://arxiv.org/abs/2501.17771'])
  expect(await app.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows().length)).toBe(1)
})

/** A folder with a small model. */
async function copyModel(): Promise<string> {
  const folder = join(await mkdtemp(join(opened.folder, 'models-')), 'small')
  await cp(await referenceModel('stories260k'), folder, { recursive: true })
  return folder
}
