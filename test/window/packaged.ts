import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Browser, chromium, type Page } from 'playwright-core'
import { expect } from 'vitest'
import { packFolder } from '../../src-main/setup/package/folder.mjs'
import { eventually } from '../eventually.ts'
import { patience } from '../patience.ts'
import { electronFolder, makeCompatible } from './install.mjs'
import { callIn } from './open-window.ts'

/** Runs a program to its end and returns its output. Throws if it fails. */
export async function runTool(program: string, args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args)
  return stdout
}

/** Packs the program as it is shipped, but with the Electron for tests, which has to import `compatible.mjs` before the program. */
export async function packForTests(target: string): Promise<void> {
  const compatible = await mkdtemp(join(tmpdir(), 'espalier-compatible-'))
  await makeCompatible(compatible)
  const names = ['compatible.mjs', 'references.node', 'better-sqlite3.node']
  await packFolder(target, electronFolder(), async (files) => {
    for (const name of names) files.set(name, await readFile(join(compatible, name)))
    const description = JSON.parse(String(files.get('package.json')))
    const entry = `import './compatible.mjs'\nawait import(${JSON.stringify(description.main)})\n`
    files.set('compatible-main.mjs', Buffer.from(entry))
    files.set('package.json', Buffer.from(JSON.stringify({ ...description, main: 'compatible-main.mjs' })))
  })
  await rm(compatible, { recursive: true })
}

/** A running packaged program. It refuses Node's debugger, so tests drive it through its page only. */
export interface Packaged {
  page: Page
  readonly printed: string
  quit(): Promise<void>
}

/**
 * Starts a packaged program.
 * @param command ends with the program and its arguments
 * @param forwarded the port of this machine that leads to the program's port 9222, if the program has a network of its own
 */
export async function startPackaged(command: string[], environment: Record<string, string>, forwarded?: number): Promise<Packaged> {
  const [program = '', ...args] = command
  const child = spawn(program, [...args, `--remote-debugging-port=${forwarded ? 9222 : 0}`], {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let printed = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (printed += text))
  const address = await eventually(
    () => {
      if (child.exitCode !== null) throw new Error(`${command.join(' ')} ended with ${child.exitCode}: ${printed}`)
      return /DevTools listening on (ws:\S+)/.exec(printed)?.[1]
    },
    'the address of the page',
    30_000,
  )
  const browser = await chromium.connectOverCDP(forwarded ? address.replace(':9222/', `:${forwarded}/`) : address)
  const page = await eventually(() => pageOf(browser), 'the window', 30_000)
  page.setDefaultTimeout(30_000 * patience)
  await page.getByRole('heading', { level: 1 }).first().waitFor()
  return {
    page,
    get printed() {
      return printed
    },
    async quit() {
      await page.close()
      await end(child)
      await browser.close()
    },
  }
}

const pageOf = (browser: Browser) => browser.contexts().flatMap((context) => context.pages())[0]

/** The program ends with its only window. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

/** Prunes the sample model on two short windows, which takes seconds, and opens the list of runs. */
export async function pruneQuickly({ page }: Packaged): Promise<void> {
  const call = callIn(page)
  const [model] = await call('models.list', {})
  const [preset] = await call('experiments.presets', { model: model?.id ?? '' })
  const few = { ...(preset?.grid.calibration ?? { source: 'sample-calibration' }), sequenceLength: 64, windows: 2 }
  const options = { windows: 2 }
  const request = { method: '2ssp', amount: { sparsity: 0.5 }, options, seed: 0, calibration: few, measures: [], backend: 'auto' as const }
  const run = await call('runs.create', { model: model?.id ?? '', request, start: 'queue' })
  await eventually(
    () => call('runs.get', { id: run.id }),
    ({ status, problem }) => {
      if (problem) throw new Error(problem.message)
      return status === 'done'
    },
    60_000,
  )
  await page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name: 'Runs' }).click()
}

/**
 * Prunes the sample model through the screens of a first start, and generates answers in the playground. Ends on the page of the
 * experiment. Returns the number of clicks.
 */
export async function pruneAndAsk({ page }: Packaged): Promise<number> {
  await page.evaluate(() => {
    Object.assign(window, { clicks: 0 })
    addEventListener('click', ({ isTrusted }) => isTrusted && Object.assign(window, { clicks: clicks() + 1 }), { capture: true })
    const clicks = () => (window as unknown as { clicks: number }).clicks
  })
  await page.getByRole('button', { name: 'Run sample experiment' }).click()
  const runs = page.getByRole('region', { name: 'Runs of this experiment' })
  await runs.waitFor()
  await eventually(
    async () => {
      if ((await runs.getByText('failed', { exact: true }).count()) > 0) throw new Error(`A run failed: ${await runs.textContent()}`)
      return runs.getByText('done', { exact: true }).count()
    },
    (count) => count === 5,
    240_000,
  )
  const experiment = page.url()
  await page.getByRole('button', { name: 'Try in playground' }).click()
  await page.getByRole('button', { name: 'Generate' }).click()
  // The unpruned model and the pruned ones. A pruned model may end its answer early, so ten tokens in two columns are enough.
  const answers = page.getByRole('region', { name: 'Answers in columns' })
  const columns = answers.locator('[role="group"]:has([data-token="9"])')
  await page.getByRole('region', { name: 'Answers', exact: true }).getByRole('status').getByText('done').waitFor()
  if ((await columns.count()) < 2) throw new Error(`Not enough answers: ${await answers.textContent()}`)
  const clicks = await page.evaluate(() => (window as unknown as { clicks: number }).clicks)
  await page.goto(experiment)
  await runs.waitFor()
  return clicks
}

/** Saves a pruned model as GGUF in Q4_K_M, under a name, and waits until it was opened again and compared. */
export async function saveQuantised({ page }: Packaged, name: string): Promise<void> {
  await page
    .getByRole('link', { name: /^2SSP 50/ })
    .first()
    .click()
  await page.getByRole('button', { name: 'Save the model …' }).click()
  const dialog = page.getByRole('dialog', { name: 'Save the pruned model' })
  await dialog.getByRole('checkbox', { name: /Q4_K_M/ }).check()
  await dialog.getByRole('textbox', { name: 'Name' }).fill(name)
  await dialog.getByRole('button', { name: 'Save', exact: true }).click()
  await dialog.getByText('Saved, reopened and compared.').waitFor()
  const row = dialog.getByRole('row').filter({ has: page.getByRole('rowheader', { name: /Q4_K_M/ }) })
  expect(await row.textContent()).toMatch(/\d of 8/)
  await dialog.getByRole('button', { name: 'Close' }).last().click()
}
