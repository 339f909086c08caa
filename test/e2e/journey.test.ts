import { cp, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { findAccessibilityFaults, go, openScreen, type Screen } from './screens.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

vi.setConfig({ testTimeout: 600_000 })

const sample = join(import.meta.dirname, '../../resources/sample-model')
let browser: Browser
let workbench: Workbench
let screen: Screen
let page: Page
let folder: string

beforeAll(async () => {
  ;[browser, workbench] = await Promise.all([launchBrowser(), startWorkbench()])
  screen = await openScreen(browser, workbench)
  page = screen.page
  folder = await mkdtemp(join(tmpdir(), 'espalier-journey-'))
  await cp(sample, join(folder, 'own-model'), { recursive: true })
  const text = async (name: string) => (await readFile(join(sample, name), 'utf8')).slice(0, 60_000)
  await writeFile(join(folder, 'own-calibration.txt'), await text('calibration.txt'))
  await writeFile(join(folder, 'own-test.txt'), await text('test.txt'))
}, 120_000)

afterAll(async () => {
  await browser?.close()
  await workbench?.close()
})

const navigate = (name: string) => page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name }).click()
const preview = () => page.getByRole('complementary', { name: 'What this would do' })

async function chooseOwnTexts(): Promise<void> {
  await page.getByRole('combobox', { name: 'Calibration data' }).selectOption({ label: 'a text of your own …' })
  const own = page.getByRole('textbox', { name: /^Your text/ })
  await own.first().fill(join(folder, 'own-calibration.txt'))
  await own.first().blur()
  await page.getByRole('spinbutton', { name: 'Windows' }).first().fill('6')
  await page.getByRole('button', { name: 'Add a text of your own' }).click()
  await own.last().fill(join(folder, 'own-test.txt'))
  await own.last().blur()
  for (const box of await page.getByRole('group', { name: 'Perplexity on' }).getByRole('checkbox', { checked: true }).all())
    await box.uncheck()
  await page
    .getByRole('spinbutton', { name: /at most/i })
    .first()
    .fill('4')
}

/** The time that the preview states, when it states one. */
async function statedTime(): Promise<string> {
  await eventually(
    () => preview().getAttribute('aria-busy'),
    (busy) => busy !== 'true',
    120_000,
  )
  return eventually(
    async () => (await preview().getByRole('status').textContent()) ?? '',
    (text) => /(about|to|under) .*\d/.test(text),
    120_000,
  )
}

test('from a folder on disk and two texts to compared models, by what the screens offer and without a reload', async () => {
  await page.getByRole('heading', { name: 'Prune a first model' }).waitFor()
  await page.evaluate(() => Object.assign(window, { neverReloaded: true }))
  await page.getByRole('button', { name: 'Add a model' }).first().click()
  const dialog = page.getByRole('dialog')
  await dialog.getByRole('textbox', { name: /Folder of safetensors/ }).fill(join(folder, 'own-model'))
  await dialog.getByRole('button', { name: 'Add', exact: true }).click()
  await dialog.waitFor({ state: 'hidden' })
  await page.getByRole('link', { name: 'own-model' }).waitFor()

  await navigate('New experiment')
  await page.getByRole('checkbox', { name: /^own-model/ }).check()
  for (const box of await page.getByRole('checkbox', { name: /^(?!own-model).*llama, 12 blocks/ }).all()) await box.uncheck()
  await page.getByRole('textbox', { name: 'Name' }).fill('The journey')
  for (const method of ['SliceGPT', 'EvoPress, whole blocks']) {
    const box = page.getByRole('checkbox', { name: new RegExp(`^${method}`) })
    if ((await box.count()) > 0) await box.first().check()
  }
  for (const title of ['2SSP', 'ShortGPT', 'SliceGPT'])
    expect(
      await page
        .getByRole('checkbox', { name: new RegExp(`^${title} `) })
        .first()
        .isChecked(),
    ).toBe(true)
  const evopress = page.getByRole('checkbox', { name: /^EvoPress/ }).first()
  if (await evopress.isChecked()) await evopress.uncheck()
  await chooseOwnTexts()
  await page.getByRole('checkbox', { name: /Inference time/ }).check()
  expect(await statedTime()).toContain('7 runs')
  await page.getByRole('button', { name: 'Add to the queue' }).click()
  await page.getByRole('heading', { level: 1, name: 'The journey' }).waitFor()
  await eventually(
    async () =>
      (await page.getByText(/7 of 7|7 runs done|all 7/).count()) +
      ((await page.getByRole('button', { name: 'Compare all' }).isEnabled()) ? 1 : 0),
    (count) => count > 0,
    300_000,
  )
  const runs = page.getByRole('region', { name: 'Runs of this experiment' })
  await eventually(
    () => runs.getByText('done', { exact: true }).count(),
    (count) => count === 7,
    400_000,
  )

  await page.getByRole('button', { name: 'Compare all' }).click()
  const table = page.getByRole('region', { name: 'Comparison table' })
  await table.getByText(/^pinned: .*dense/).waitFor()

  expect(await page.evaluate(() => 'neverReloaded' in window)).toBe(true)
  expect(screen.faults).toEqual([])
})

test('the estimate follows windows, their length and measures, and comes from finished runs', async () => {
  const [experiment] = await workbench.call('experiments.list', {})
  const grid = await workbench.call('experiments.grid', { id: experiment?.id ?? '' })
  const likely = async (changes: object) => {
    const found = await workbench.call('experiments.preview', { grid: { ...grid, ...changes } })
    expect(found.problems).toEqual([])
    expect(found.basis).toBe('runs')
    return found.seconds?.likely ?? Number.NaN
  }
  const [first] = grid.measures
  const measured = (windows: number, sequenceLength: number) => ({
    measures: [{ kind: 'perplexity' as const, name: 'text', data: { source: join(folder, 'own-test.txt'), windows, sequenceLength } }],
  })
  expect(first?.kind).toBe('perplexity')
  const few = await likely(measured(4, 64))
  const many = await likely(measured(40, 64))
  expect(many).toBeGreaterThan(few)
  expect(await likely(measured(40, 128))).toBeGreaterThan(many)
  expect(await likely({})).toBeGreaterThan(few)
  await go(page, `#/new?from=${experiment?.id}`)
  await preview().getByTitle('By finished runs of this model on this machine').waitFor()
})

test('a run’s page gives every measure with its difference, the method’s own scores, and a log that tells what happened', async () => {
  const { rows } = await workbench.call('runs.query', {})
  const of = (method: string) => rows.find((run) => run.method === method && (run.baseline || run.nominal === 0.5))?.id ?? ''
  await go(page, `#/run/${of('2ssp')}`)
  const measures = page.getByRole('region', { name: 'Measures' })
  await measures.getByText('the dense model').waitFor()
  const shown = (await measures.textContent()) ?? ''
  for (const name of ['perplexity', 'speed-up', 'size', 'pruning time', 'load by others']) expect(shown).toContain(name)
  expect(await measures.getByText(/^\+\d[\d.,]*\s+\(\+\d/).count(), 'a worse perplexity').toBeGreaterThan(0)
  await page.getByRole('tab', { name: 'Log' }).click()
  const log = page.getByRole('region', { name: 'Log' })
  for (const line of [/round 1: attention \d+ goes, perplexity/, /perplexity on .*: \d/, / s {2}done/]) await log.getByText(line).waitFor()

  await go(page, `#/run/${of('shortgpt')}?tab=scores`)
  await page.getByRole('list', { name: 'influence of the block' }).getByRole('listitem').nth(11).waitFor()
  await go(page, `#/run/${of('slicegpt')}?tab=scores`)
  await page.getByRole('heading', { name: 'Eigenvalues of the stream' }).waitFor()
  await page.getByText(/components are kept; they hold \d/).waitFor()
  const { seconds, phaseSeconds } = await workbench.call('runs.get', { id: of('2ssp') })
  expect(phaseSeconds.pruning ?? Number.NaN, 'a part of the run is no longer than the run').toBeLessThanOrEqual(seconds ?? 0)
  expect(screen.faults).toEqual([])
})

test('the runs table groups with means, and its columns move and widen by mouse and keyboard', async () => {
  await go(page, '#/runs')
  await page.locator('tr[data-row="0"]').waitFor()
  const titles = () => page.locator('th[draggable="true"] .title').allTextContents()
  const before = await titles()
  await page.getByRole('button', { name: 'Reached', exact: true }).press('Alt+ArrowLeft')
  await eventually(titles, (now) => now.indexOf('Reached') === before.indexOf('Reached') - 1, 5000)
  await page
    .locator('th[draggable="true"]')
    .filter({ hasText: 'Made' })
    .dragTo(page.locator('th[draggable="true"]').filter({ hasText: 'Model' }))
  await eventually(titles, (now) => now[0] === 'Made', 5000)
  const grip = page.getByRole('separator', { name: 'Width of Model' })
  const width = Number(await grip.getAttribute('aria-valuenow'))
  await grip.press('ArrowRight')
  await eventually(
    async () => Number(await grip.getAttribute('aria-valuenow')),
    (now) => now === width + 0.5,
    5000,
  )
  await go(page, '#/settings')
  await go(page, '#/runs')
  await eventually(titles, (now) => now[0] === 'Made', 5000)
  expect(await page.locator('tr[data-row="0"] th').evaluate((cell) => getComputedStyle(cell).position)).toBe('sticky')
  await page.getByRole('button', { name: /^Group by/ }).click()
  await page.getByRole('menuitem', { name: 'Method' }).click()
  const groups = page.getByRole('region', { name: 'Groups of runs' })
  await groups.getByRole('row', { name: /^2SSP 2 runs.*±/ }).waitFor()
  await groups.getByRole('button', { name: 'ShortGPT' }).click()
  await eventually(
    () => page.locator('tr[data-row]').count(),
    (count) => count === 2,
    10_000,
  )
})

test('a comparison shows and exports the measures that were chosen, and is there again when one comes back', async () => {
  const [experiment] = await workbench.call('experiments.list', {})
  await go(page, `#/compare?experiment=${experiment?.id}`)
  const table = page.getByRole('region', { name: 'Comparison table' })
  await table.getByText(/^pinned/).waitFor()
  await table.getByRole('button', { name: 'Measures shown' }).click()
  await page.getByRole('menuitemcheckbox', { name: 'size' }).click()
  await page.keyboard.press('Escape')
  await eventually(
    () => table.getByRole('columnheader', { name: /^size/ }).count(),
    (count) => count === 0,
    5000,
  )
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    (async () => {
      await page.getByRole('button', { name: 'Export the table' }).first().click()
      await page.getByRole('menuitem', { name: 'LaTeX' }).click()
    })(),
  ])
  const latex = await readFile(await download.path(), 'utf8')
  expect(latex).toContain('2SSP')
  expect(latex).toContain('$\\pm$')
  expect(latex).not.toContain('size')
  await navigate('Models')
  await navigate('Compare')
  await table.getByText(/^pinned/).waitFor()
})

test('the pages of experiments have nothing that axe finds', async () => {
  const [experiment] = await workbench.call('experiments.list', {})
  const found: string[] = []
  for (const hash of ['#/experiments', `#/experiments/${experiment?.id}`, '#/runs?group=method']) {
    await go(page, hash)
    await page.getByRole('heading', { level: 1 }).waitFor()
    await page.waitForTimeout(400)
    found.push(...(await findAccessibilityFaults(page)).map((fault) => `${hash} ${fault}`))
  }
  expect(found).toEqual([])
})
