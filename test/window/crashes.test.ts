import { once } from 'node:events'
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFailed, test } from 'vitest'
import { timedMachine } from '../e2e/timed-machine.ts'
import { eventually } from '../eventually.ts'
import { openedBy, visibleWindows } from './desktop.ts'
import { type OpenWindow, openWindow } from './open-window.ts'

// Processes that die, windows that are closed during a run, and a history that cannot be opened.

let opened: OpenWindow

beforeAll(async () => {
  opened = await openWindow({ prepare: timedMachine })
  await expectModels()
})

afterAll(() => opened?.close())

const expectModels = () => opened.page.getByRole('heading', { level: 1, name: 'Models' }).waitFor()

/** Starts a search of many short steps, and stops its processes after the first ones, so that it cannot end before a test looks at it. */
async function frozenSearch(seed: number) {
  const { call } = opened
  const [model] = await call('models.list', {})
  const [preset] = await call('experiments.presets', { model: model?.id ?? '' })
  const run = await call('runs.create', {
    model: model?.id ?? '',
    request: {
      method: 'blockpruner_submodule',
      amount: { sparsity: 0.5 },
      options: { windows: 4 },
      seed,
      measures: [],
      backend: 'auto',
      ...(preset?.grid.calibration ? { calibration: { ...preset.grid.calibration, windows: 4, sequenceLength: 64 } } : {}),
    },
    start: 'queue',
  })
  await eventually(async () => (await call('runs.get', { id: run.id })).stepsDone > 0, 'a step', 60_000)
  const processes = await computeProcesses()
  // The run's own, and one that looks at models.
  expect(processes.length).toBeGreaterThan(0)
  for (const id of processes) process.kill(id, 'SIGSTOP')
  expect((await call('runs.get', { id: run.id })).status).toBe('running')
  return { run, processes }
}

/** Lets a stopped process continue, unless it was killed meanwhile: the program may have ended it already. */
function continueProcess(id: number): void {
  try {
    process.kill(id, 'SIGCONT')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ESRCH') throw thrown
  }
}

const statusIs = (id: string, wanted: string) =>
  eventually(
    () => opened.call('runs.get', { id }),
    ({ status }) => status === wanted,
    120_000,
  )

/** The ids of the compute processes of this window. */
async function computeProcesses(): Promise<number[]> {
  const read = (id: string, name: string) => readFile(`/proc/${id}/${name}`, 'utf8').catch(() => '')
  const found: number[] = []
  for (const id of (await readdir('/proc')).filter((name) => /^\d+$/.test(name)))
    if ((await read(id, 'environ')).includes(`\0ESPALIER_HOME=${opened.folder}/`) && /compute/.test(await read(id, 'cmdline')))
      found.push(Number(id))
  return found
}

test('a run whose compute process is killed is resumed automatically, and its page says so', async () => {
  const { page } = opened
  const { run, processes } = await frozenSearch(0)
  await page.evaluate((id) => {
    location.hash = `#/run/${id}`
  }, run.id)
  const notice = page
    .getByText(/^The compute process ended unexpectedly, by SIGKILL\. The run was resumed automatically\./)
    .first()
    .waitFor()
  for (const id of processes) process.kill(id, 'SIGKILL')
  await notice
  const { problem, attempts } = await statusIs(run.id, 'done')
  expect({ problem, attempts }).toEqual({ problem: null, attempts: 2 })
})

test('a run whose window is closed stops, and continues when the program starts again', async () => {
  const { run, processes } = await frozenSearch(1)
  const ended = once(opened.app.process(), 'exit')
  await eventually(() => opened.page.evaluate(() => document.hasFocus()), 'the focus')
  await opened.desktop.run('xdotool', 'key', 'alt+F4')
  for (const id of processes) continueProcess(id)
  expect(await ended).toEqual([0, null])
  await eventually(async () => (await computeProcesses()).every((id) => !processes.includes(id)), 'the end of the compute process')
  await opened.restart()
  await opened.page
    .getByRole('region', { name: 'Notices' })
    .getByText(/stopped when Espalier closed; resumed now/)
    .waitFor()
  await statusIs(run.id, 'done')
})

test('a page whose process dies is loaded again with a message; the fourth time within a minute ends the program', async () => {
  onTestFailed(() => console.error(`The program printed:\n${opened.printed}`))
  const { app, desktop } = opened
  const ended = once(app.process(), 'exit')
  // Playwright considers a page whose process died as lost.
  const isLoaded = () =>
    app.evaluate(({ BrowserWindow }) => {
      const contents = BrowserWindow.getAllWindows()[0]?.webContents
      return (
        contents && !contents.isCrashed() && !contents.isLoading() && contents.executeJavaScript('document.querySelector("h1") !== null')
      )
    })
  const deaths = () => opened.printed.match(/The page's process ended: killed/g)?.length ?? 0
  // As a system does that runs out of memory. A dump of a crash would be written first, and can take long on a busy disk.
  const killPage = async () => {
    const before = deaths()
    await eventually(isLoaded, 'the page')
    // The end of a process is not reported if the page is just moving to another one.
    for (let tries = 4; deaths() === before; tries--) {
      // 0 stands for a page that has no process, and would be this process and all of its children to a signal.
      const id = await app.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.webContents.getOSProcessId())
      if (id) process.kill(id, 'SIGKILL')
      await eventually(() => deaths() > before, "the end of the page's process", 5000).catch((thrown) => {
        if (tries === 1) throw thrown
      })
    }
  }
  for (let death = 1; death <= 3; death++) {
    const box = await openedBy(desktop, killPage)
    await eventually(isLoaded, 'the page again')
    await closeBox(box)
  }
  await closeBox(await openedBy(desktop, killPage))
  await ended
  expect(deaths()).toBe(4)
  await opened.restart()
  await expectModels()
})

test('a history that cannot be opened is named in the window, and opens once it is repaired', async () => {
  await opened.quit()
  const data = join(opened.folder, 'data')
  await rename(data, `${data}-elsewhere`)
  await writeFile(data, 'no folder')
  await opened.restart()
  expect(await opened.page.getByRole('alert').filter({ hasText: data }).first().textContent()).toContain(
    `The data folder ${data} is a file.`,
  )
  await opened.quit()
  await rm(data)
  await rename(`${data}-elsewhere`, data)
  await opened.restart()
  await opened.page.getByRole('link', { name: 'Sample model' }).first().waitFor()
})

/** Answers a message box, which ignores keys until it is drawn. */
const closeBox = (box: string) =>
  eventually(async () => {
    await opened.desktop.run('xdotool', 'windowactivate', box, 'key', 'Return').catch(() => undefined)
    return !(await visibleWindows(opened.desktop)).includes(box)
  }, 'the end of the message box')
