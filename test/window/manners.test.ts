import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../e2e/eventually.ts'
import { timedMachine } from '../e2e/timed-machine.ts'
import { clickMenu, type OpenWindow, openWindow } from './open-window.ts'

// What a desktop program does that a page in a browser does not have to.

declare global {
  /** What the tests record in the main process. */
  var recorded: { menus: string[][]; folder: string; bars: number[]; notices: Electron.Notification[] }
}

let opened: OpenWindow

beforeAll(async () => {
  opened = await openWindow({ prepare: timedMachine })
  await record()
  await opened.page.getByRole('heading', { level: 1, name: 'Models' }).waitFor()
})

afterAll(() => opened?.close())

const record = () =>
  inMain(() => {
    globalThis.recorded = { menus: [], folder: '', bars: [], notices: [] }
  })

/** Presses keys once the page has the focus, which the window manager may give later. */
async function key(name: string): Promise<void> {
  await eventually(() => opened.page.evaluate(() => document.hasFocus()), Boolean, 20_000)
  await opened.desktop.run('xdotool', 'key', name)
}
const hash = () => opened.page.evaluate(() => location.hash)
const go = (to: string) =>
  opened.page.evaluate((next) => {
    location.hash = next
  }, to)
const isAt = (to: string) => eventually(hash, (found) => found === to, 10_000)
const dialog = (name: string) => opened.page.getByRole('dialog', { name })
const inMain = <Result>(ask: (electron: typeof Electron.CrossProcessExports) => Result | Promise<Result>) =>
  opened.app.evaluate<Result>(ask)

/** Where something of the page is on the screen, in its middle. */
async function onScreen(what: ReturnType<typeof opened.page.locator>): Promise<[string, string]> {
  const box = await what.boundingBox()
  const content = await inMain(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.getContentBounds())
  if (!box || !content) throw new Error('It is not on the screen.')
  return [String(Math.round(content.x + box.x + box.width / 2)), String(Math.round(content.y + box.y + box.height / 2))]
}

test('the menu goes to the screen that is open without losing what was typed there', async () => {
  await go('#/playground')
  const prompt = opened.page.getByRole('textbox', { name: 'Prompt', exact: true })
  await eventually(
    () => prompt.inputValue(),
    (text) => text !== '',
    20_000,
  )
  await prompt.fill('The leaf of')
  await opened.page.evaluate(() => Object.assign(window, { isTheSame: true }))
  await clickMenu(opened, 'Go', 'Playground')
  await clickMenu(opened, 'Help', 'Keyboard Shortcuts')
  await dialog('Keyboard').waitFor()
  await opened.page.keyboard.press('Escape')
  expect(await opened.page.evaluate(() => 'isTheSame' in window), 'the page was loaded again').toBe(true)
  await expect.poll(() => prompt.inputValue()).toBe('The leaf of')
})

test('keys and buttons of the mouse go back and forward, one step each', async () => {
  for (const screen of ['#/models', '#/runs', '#/judge']) await go(screen)
  await opened.page.getByRole('heading', { level: 1, name: 'Judge' }).waitFor()
  await key('alt+Left')
  await isAt('#/runs')
  await key('alt+Right')
  await isAt('#/judge')
  await opened.desktop.run('xdotool', 'mousemove', ...(await onScreen(opened.page.getByRole('heading', { level: 1 }))))
  await opened.desktop.run('xdotool', 'click', '8')
  await isAt('#/runs')
  await opened.desktop.run('xdotool', 'click', '9')
  await isAt('#/judge')
})

test('the zoom has the keys that people know', async () => {
  const zoom = () => inMain(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.webContents.zoomLevel)
  await key('ctrl+equal')
  await eventually(zoom, (level) => level === 0.5, 10_000)
  await key('ctrl+plus')
  await eventually(zoom, (level) => level === 1, 10_000)
  await key('ctrl+minus')
  await eventually(zoom, (level) => level === 0.5, 10_000)
  await key('ctrl+0')
  await eventually(zoom, (level) => level === 0, 10_000)
})

test('full screen, and back', async () => {
  const isFull = () => inMain(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.isFullScreen())
  await key('F11')
  await eventually(isFull, Boolean, 10_000)
  await key('F11')
  await eventually(isFull, (full) => !full, 10_000)
})

test('text is found on the screen, marked, and counted', async () => {
  await clickMenu(opened, 'Help', 'Documentation')
  await opened.page.getByRole('heading', { name: 'Espalier', exact: true }).waitFor()
  await key('ctrl+f')
  const field = opened.page.getByRole('textbox', { name: 'Find on this screen' })
  await field.waitFor()
  await field.fill('structured pruning')
  const found = opened.page.getByRole('search').getByRole('status')
  await eventually(
    () => found.textContent(),
    (text) => /^\s*1 of [2-9]/.test(text ?? ''),
    10_000,
  )
  await key('Return')
  await eventually(
    () => found.textContent(),
    (text) => /^\s*2 of/.test(text ?? ''),
    10_000,
  )
  expect(await opened.page.evaluate(() => String([...(CSS.highlights.get('found-current') ?? [])][0]))).toMatch(/structured pruning/i)
  await field.fill('xyzzy')
  await opened.page.getByRole('search').getByText('Not found').waitFor()
  await key('Escape')
  await field.waitFor({ state: 'hidden' })
  expect(await opened.page.evaluate(() => CSS.highlights.size)).toBe(0)
})

test('the documents and licences need no network, and their links stay in the program', async () => {
  await opened.page.getByRole('link', { name: 'Licence', exact: true }).click()
  await opened.page.getByText('Apache License', { exact: false }).first().waitFor()
  await go('#/help/start')
  await opened.page
    .getByRole('article')
    .getByRole('link', { name: /command.line/i })
    .first()
    .click()
  await isAt('#/help/command-line')
})

test('the boxes of the menu open: shortcuts, what this program is, and a summary for a report', async () => {
  await clickMenu(opened, 'Help', 'Keyboard Shortcuts')
  await dialog('Keyboard').getByText('Ctrl').first().waitFor()
  await opened.page.keyboard.press('Escape')
  await clickMenu(opened, 'Help', 'About Espalier')
  await dialog('About Espalier')
    .getByText(/^\d+\.\d+\.\d+, commit [0-9a-f]{7,}$/)
    .waitFor()
  await dialog('About Espalier')
    .getByText(/\b\d+ threads?\b/)
    .first()
    .waitFor()
  await opened.page.keyboard.press('Escape')
  await clickMenu(opened, 'Help', 'Report a Problem …')
  await opened.page.getByText('A summary of this system was copied').first().waitFor()
  expect(await inMain(({ clipboard }) => clipboard.readText())).toMatch(/^Espalier: [\s\S]*self-test/)
})

test('a field and a row have the menus of the system', async () => {
  await go('#/new')
  // Menus that pop up are recorded: one that is open would take all later keys.
  await inMain(({ Menu }) => {
    Menu.prototype.popup = function () {
      globalThis.recorded.menus.push(this.items.map(({ label, role, type }) => (type === 'separator' ? '-' : label || role || '')))
    }
  })
  const shown = () => inMain(() => globalThis.recorded.menus)
  await opened.page.getByRole('button', { name: 'All settings' }).click()
  const name = opened.page.getByRole('textbox', { name: 'Name', exact: true })
  await name.fill('some text')
  await name.click({ button: 'right' })
  await eventually(shown, (menus) => menus.length === 1, 10_000)
  expect((await shown())[0]).toEqual(['Undo', 'Redo', '-', 'Cut', 'Copy', 'Paste', 'Delete', '-', 'Select All'])
  await opened.page.getByRole('button', { name: 'Start over' }).click()
  await go('#/models')
  await opened.page
    .getByRole('listitem')
    .filter({ hasText: 'Sample model' })
    .click({ button: 'right', position: { x: 20, y: 150 } })
  await eventually(shown, (menus) => menus.length === 2, 10_000)
  expect((await shown())[1]?.[0]).toBe('Open')
  await opened.page.getByRole('link', { name: 'Sample model' }).first().click()
  await opened.page.getByRole('heading', { level: 1, name: 'Sample model' }).waitFor()
})

test('the model that was looked at is among the recent ones', async () => {
  await eventually(
    () =>
      inMain(({ Menu }) =>
        Menu.getApplicationMenu()
          ?.items[0]?.submenu?.items.find(({ label }) => label === 'Recent Models')
          ?.submenu?.items.map(({ label }) => label),
      ),
    (labels) => labels?.[0] === 'Sample model',
    10_000,
  )
  await go('#/runs')
  await clickMenu(opened, 'File', 'Recent Models', 'Sample model')
  await opened.page.getByRole('heading', { level: 1, name: 'Sample model' }).waitFor()
})

test('the menu adds a model', async () => {
  await clickMenu(opened, 'File', 'Add Model …')
  await dialog('Add a model').waitFor()
  expect(await hash()).toBe('#/models')
  await opened.page.keyboard.press('Escape')
  await dialog('Add a model').waitFor({ state: 'hidden' })
})

test('a file is saved by the system’s dialog, under its name and where the last one went, and then shown in its folder', async () => {
  // Playwright would take the file away before the dialog.
  await inMain(async ({ BrowserWindow, shell }) => {
    const { debugger: wire } = (BrowserWindow.getAllWindows()[0] as Electron.BrowserWindow).webContents
    wire.attach()
    await wire.sendCommand('Browser.setDownloadBehavior', { behavior: 'default' })
    shell.showItemInFolder = (path) => {
      globalThis.recorded.folder = path
    }
  })
  const save = async (content: string) => {
    await opened.page.evaluate((text) => {
      const link = document.createElement('a')
      link.href = URL.createObjectURL(new Blob([text]))
      link.download = 'table.csv'
      link.click()
    }, content)
    const find = () => opened.desktop.run('xdotool', 'search', '--onlyvisible', '--name', '^Save table.csv$').catch(() => '')
    const window = (await eventually(find, Boolean, 20_000)).trim()
    await opened.desktop.run('xdotool', 'windowactivate', '--sync', window)
  }
  await save('a,b')
  const chosen = join(opened.folder, 'chosen.csv')
  await opened.desktop.run('xdotool', 'key', 'ctrl+a')
  await opened.desktop.run('xdotool', 'type', chosen)
  await opened.desktop.run('xdotool', 'key', 'Return')
  await opened.page.getByText('chosen.csv saved').first().waitFor()
  expect(await readFile(chosen, 'utf8')).toBe('a,b')
  await opened.page.getByRole('button', { name: 'Show in folder' }).click()
  await eventually(
    () => inMain(() => globalThis.recorded.folder),
    (folder) => folder === chosen,
    10_000,
  )
  await save('c,d')
  await opened.desktop.run('xdotool', 'key', 'Return')
  await opened.page.getByText('table.csv saved').first().waitFor()
  expect(await readFile(join(opened.folder, 'table.csv'), 'utf8')).toBe('c,d')
})

/** Queues an experiment on so little text that it takes seconds. */
async function startExperiment(name: string, seeds = [0]) {
  const [model] = await opened.call('models.list', {})
  const [preset] = await opened.call('experiments.presets', { model: model?.id ?? '' })
  const few = { ...(preset?.grid.calibration ?? { source: 'sample-calibration' }), sequenceLength: 64, windows: 2 }
  const methods = [{ method: 'blockpruner_submodule', options: { windows: 2 } }, { method: 'shortgpt' }]
  const amounts = [{ sparsity: 0.25 }, { sparsity: 0.5 }]
  const grid = { models: [model?.id ?? ''], methods, amounts, seeds, calibration: few, measures: [], backend: 'auto' as const }
  return opened.call('experiments.create', { name, grid, start: 'queue' })
}

const isDone = (experiment: string) =>
  eventually(
    () => opened.call('experiments.get', { id: experiment }),
    ({ counts, runs }) => counts.done === runs,
    120_000,
  )

test('the taskbar follows a run, and is empty afterwards', async () => {
  await inMain(({ BrowserWindow }) => {
    const window = BrowserWindow.getAllWindows()[0] as Electron.BrowserWindow
    window.setProgressBar = (share) => void globalThis.recorded.bars.push(share)
  })
  const bars = () => inMain(() => globalThis.recorded.bars)
  await isDone((await startExperiment('First')).experiment.id)
  await eventually(bars, (all) => all.at(-1) === -1, 20_000)
  const shares = (await bars()).filter((share) => share > 0 && share < 1)
  expect(new Set(shares).size).toBeGreaterThan(4)
  expect(shares.every((share, at) => at === 0 || share >= (shares[at - 1] as number) - 0.2)).toBe(true)
  await opened.page.getByRole('region', { name: 'Notices' }).waitFor()
})

test('the Compare entry of the menu brings the last comparison back', async () => {
  const { rows } = await opened.call('runs.query', { columns: [] } as never)
  await go(
    `#/compare?runs=${rows
      .slice(0, 2)
      .map(({ id }) => id)
      .join(',')}`,
  )
  await opened.page.getByRole('table').first().waitFor()
  await go('#/runs')
  await clickMenu(opened, 'Go', 'Compare')
  await eventually(hash, (found) => rows.slice(0, 2).every(({ id }) => found.includes(id)), 10_000)
})

test('a click on the notification of runs that ended shows them', async () => {
  await inMain(({ Notification }) => {
    Notification.prototype.show = function () {
      globalThis.recorded.notices.push(this)
    }
  })
  await inMain(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.minimize())
  const made = await startExperiment('Again', [1])
  const titles = () => inMain(() => globalThis.recorded.notices.map(({ title }) => title))
  await isDone(made.experiment.id)
  await eventually(titles, (all) => all.length > 0, 20_000)
  await inMain(() => globalThis.recorded.notices.at(-1)?.emit('click'))
  await eventually(hash, (found) => found === `#/experiments/${made.experiment.id}` || found.startsWith('#/run/'), 10_000)
  // The window manager restores the window in its own time.
  const isMinimized = () => inMain(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.isMinimized())
  await eventually(isMinimized, (found) => found === false, 10_000)
})

test('in a narrow window the navigation fits, also with a badge, and shows how far the queue is', async () => {
  await opened.call('queue.pause', {})
  const seeds = Array.from({ length: 60 }, (_, seed) => seed)
  const { experiment, runs } = await startExperiment('Many', seeds)
  await opened.page.getByRole('navigation', { name: 'Screens' }).getByText(String(runs.length)).waitFor()
  for (const width of [720, 800, 860]) {
    await opened.app.evaluate(({ BrowserWindow }, size) => BrowserWindow.getAllWindows()[0]?.setContentSize(size, 700), width)
    await eventually(
      () => opened.page.evaluate(() => innerWidth),
      (found) => found === width,
      20_000,
    )
    const places = await opened.page.evaluate(() => {
      const side = (selector: string) => document.querySelector(selector)?.getBoundingClientRect()
      const nav = document.querySelector('nav[aria-label="Screens"]') as HTMLElement
      return {
        logo: side('.brand svg')?.right ?? 0,
        first: side('nav li')?.left ?? 0,
        last: side('nav li:last-child')?.right ?? 0,
        hidden: nav.scrollWidth - nav.clientWidth,
      }
    })
    expect(places.logo, `the logo at ${width} px`).toBeLessThanOrEqual(places.first)
    expect(places.last, `Settings at ${width} px`).toBeLessThanOrEqual(width)
    expect(places.hidden, `hidden at ${width} px`).toBe(0)
  }
  await opened.call('queue.resume', {})
  await opened.page.locator('header').getByRole('link').getByRole('progressbar').waitFor()
  await opened.call('queue.pause', {})
  await opened.call('experiments.archive', { id: experiment.id })
  await opened.call('queue.resume', {})
  await opened.app.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.setContentSize(1280, 800))
})

test('the page’s theme is the window’s, from the first frame on', async () => {
  await go('#/settings')
  await opened.page.getByText('Dark', { exact: true }).click()
  const dark = () =>
    inMain(({ nativeTheme, BrowserWindow }) => [nativeTheme.themeSource, BrowserWindow.getAllWindows()[0]?.getBackgroundColor()])
  await eventually(dark, ([theme]) => theme === 'dark', 10_000)
  expect(await dark()).toEqual(['dark', '#121613'])
})

test('the window opens again where it was, as large, and dark before the page is there', async () => {
  const place = { x: 140, y: 120, width: 900, height: 640 }
  await opened.app.evaluate(({ BrowserWindow }, bounds) => BrowserWindow.getAllWindows()[0]?.setBounds(bounds), place)
  const bounds = () => inMain(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.getNormalBounds())
  const near = (found: Electron.Rectangle | undefined) =>
    found !== undefined && (['x', 'y', 'width', 'height'] as const).every((side) => Math.abs(found[side] - place[side]) <= 40)
  await eventually(bounds, near, 10_000)
  await opened.quit()
  await opened.restart()
  await opened.page.getByRole('heading', { level: 1 }).waitFor()
  await eventually(bounds, near, 10_000)
  expect(await inMain(({ nativeTheme }) => nativeTheme.themeSource)).toBe('dark')
})

test('on a screen that is gone, the window opens on the main one; a model file of the command line is offered', async () => {
  const file = join(opened.folder, 'config/espalier/window.json')
  await opened.quit()
  const kept = JSON.parse(await readFile(file, 'utf8'))
  await writeFile(file, JSON.stringify({ ...kept, bounds: { x: 5000, y: 3000, width: 900, height: 640 } }))
  const model = join(opened.folder, 'mine.gguf')
  await opened.restart(model)
  await opened.page.getByRole('heading', { level: 1 }).waitFor()
  const seen = await inMain(({ BrowserWindow, screen }) => ({
    window: BrowserWindow.getAllWindows()[0]?.getBounds() as Electron.Rectangle,
    area: screen.getPrimaryDisplay().workArea,
  }))
  expect(seen.window.x).toBeGreaterThanOrEqual(seen.area.x)
  expect(seen.window.x + seen.window.width).toBeLessThanOrEqual(seen.area.x + seen.area.width)
  expect(seen.window.y).toBeLessThan(seen.area.y + seen.area.height)
  await dialog('Add a model').waitFor()
  expect(
    await dialog('Add a model')
      .getByRole('textbox', { name: /Safetensors folder/ })
      .inputValue(),
  ).toBe(model)
})
