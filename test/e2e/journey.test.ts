import { readFile } from 'node:fs/promises'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { type FirstDay, openFirstDay } from './first-day.ts'
import { go } from './screens.ts'

let day: FirstDay
let page: Page

beforeAll(async () => {
  day = await openFirstDay()
  page = day.screen.page
})

afterAll(() => day?.close())

const navigate = (name: string) => page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name }).click()
const preview = () => page.getByRole('complementary', { name: 'Preview' })

async function chooseOwnTexts(): Promise<void> {
  await page.getByRole('combobox', { name: 'Calibration data' }).selectOption({ label: 'Your own text …' })
  const path = page.getByRole('textbox', { name: /^Your text/ })
  await path.first().fill(day.own.calibration)
  await path.first().blur()
  await page.getByRole('spinbutton', { name: 'Windows' }).first().fill('6')
  await page.getByRole('button', { name: 'Add your own text' }).click()
  await path.last().fill(day.own.test)
  await path.last().blur()
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

/** One prompt to the dense model and two pruned ones. */
async function talk(): Promise<void> {
  await navigate('Playground')
  await page.getByRole('combobox', { name: 'Model' }).selectOption({ label: 'own-model' })
  await page.getByRole('button', { name: 'Add pruned models' }).click()
  const picker = page.getByRole('dialog', { name: 'Add pruned models' })
  for (const name of [/^2SSP 50/, /^ShortGPT 50/]) await picker.getByRole('checkbox', { name }).first().check()
  await picker.getByRole('button', { name: 'Add', exact: true }).click()
  await page.getByRole('textbox', { name: 'Prompt' }).fill('What is a garden? ')
  await page.getByRole('slider', { name: 'New tokens' }).fill('24')
  await page.getByRole('button', { name: 'Generate' }).click()
  const answers = page.getByRole('group', { name: /^Answer of/ })
  await eventually(
    () => answers.count(),
    (count) => count === 3,
    60_000,
  )
  await page.getByRole('region', { name: 'Answers', exact: true }).getByText('done', { exact: true }).waitFor()
  for (const answer of await answers.all()) expect(await answer.locator('[data-token]').count()).toBeGreaterThan(0)
  await expect.poll(() => page.getByTitle(/while 3 columns shared the machine/).count(), { message: 'a rate in each column' }).toBe(3)
  await expect.poll(() => page.getByText(/^[\d,.]+ tok\/s, shared$/).count()).toBe(3)
}

/** In three formats, each opened again and compared. A second save under the same name is refused in the dialog. */
async function save(): Promise<void> {
  await navigate('Experiments')
  await page.getByRole('link', { name: 'The journey' }).click()
  await page
    .getByRole('link', { name: /2SSP 50/ })
    .first()
    .click()
  await page.getByRole('button', { name: 'Save the model …' }).click()
  const dialog = page.getByRole('dialog', { name: 'Save the pruned model' })
  for (const name of [/Stock/, /Q4_K_M/]) await dialog.getByRole('checkbox', { name }).check()
  await dialog.getByRole('textbox', { name: 'Name' }).fill('Halved')
  await dialog.getByRole('button', { name: 'Save', exact: true }).click()
  await dialog.getByText('Saved, reopened and compared.').waitFor()
  const rowOf = (name: RegExp) => dialog.getByRole('row').filter({ has: page.getByRole('rowheader', { name }) })
  for (const name of [/Exact/, /Stock/]) expect(await rowOf(name).textContent()).toMatch(/the same\s*8 of 8/)
  await expect.poll(() => rowOf(/Q4_K_M/).textContent()).toMatch(/[+−]\d.* %\s*\d of 8/)
  await dialog.getByRole('button', { name: 'Close' }).last().click()

  await page.getByRole('button', { name: 'Save the model …' }).click()
  await dialog.getByRole('textbox', { name: 'Name' }).fill('Halved')
  await dialog.getByRole('button', { name: 'Save', exact: true }).click()
  await dialog
    .getByRole('alert')
    .getByText(/Halved exists and is not empty/)
    .waitFor()
  await dialog.getByRole('button', { name: 'Cancel' }).click()
}

test('from a folder on disk and two texts to a compared, talked-to and saved model, by what the screens offer and without a reload', async () => {
  await page.getByRole('heading', { name: 'Prune a first model' }).waitFor()
  await page.evaluate(() => Object.assign(window, { neverReloaded: true }))
  await page.getByRole('button', { name: 'Add a model' }).first().click()
  const dialog = page.getByRole('dialog')
  await dialog.getByRole('textbox', { name: /Safetensors folder/ }).fill(day.own.model)
  await dialog.getByRole('button', { name: 'Add', exact: true }).click()
  await dialog.waitFor({ state: 'hidden' })
  await page.getByRole('link', { name: 'own-model' }).waitFor()

  await navigate('New experiment')
  // The form can be used before its first draft is there, which would then fill in the methods.
  await page.getByRole('checkbox', { name: /^Gates/, checked: true }).waitFor()
  await page.getByRole('checkbox', { name: /^own-model/ }).check()
  for (const box of await page.getByRole('checkbox', { name: /^(?!own-model).*Llama, 12 blocks/ }).all()) await box.uncheck()
  await page.getByRole('textbox', { name: 'Name' }).fill('The journey')
  // A run of gates takes longer than the whole journey may.
  await page.getByRole('checkbox', { name: /^Gates/ }).uncheck()
  for (const method of ['ShortGPT', 'SliceGPT', 'EvoPress, whole blocks']) {
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
  const calibration = page.getByRole('combobox', { name: 'Calibration data' })
  await eventually(
    () => calibration.locator('option:checked').textContent(),
    (text) => text === 'Mixed text',
    10_000,
  )
  await expect
    .poll(() => calibration.getByRole('option', { name: /^Sample/ }).count(), { message: 'texts of the sample for another model' })
    .toBe(0)
  await chooseOwnTexts()
  await page.getByRole('checkbox', { name: /Inference time/ }).check()
  expect(await statedTime()).toContain('7 runs')
  await page.getByRole('button', { name: 'Add to the queue' }).click()
  await page.getByRole('heading', { level: 1, name: 'The journey' }).waitFor()
  const runs = page.getByRole('region', { name: 'Runs of this experiment' })
  await eventually(
    () => runs.getByText('done', { exact: true }).count(),
    (count) => count === 7,
    400_000,
  )

  await page.getByRole('button', { name: 'Compare all' }).click()
  const table = page.getByRole('region', { name: 'Comparison table' })
  await table.getByText(/^Pinned: .*dense/).waitFor()
  for (const title of ['2SSP', 'ShortGPT', 'SliceGPT'])
    await expect.poll(() => table.getByRole('row').filter({ hasText: title }).count(), { message: `${title} at two sparsities` }).toBe(2)

  await talk()
  await save()
  await navigate('Models')
  const card = page.getByRole('listitem').filter({ has: page.getByRole('link', { name: 'Halved stock' }) })
  await card.getByText('pruned from own-model').waitFor()
  await card.getByText(/2SSP\s+·\s+\d[\d.]* %\s+removed\s+·\s+perplexity\s+\d[\d.]*\s+own-test.txt/).waitFor()
  expect(await page.evaluate(() => 'neverReloaded' in window)).toBe(true)
  expect(day.screen.faults).toEqual([])
})

test('the estimate follows windows, their length and measures, and comes from finished runs', async () => {
  const [experiment] = await day.workbench.call('experiments.list', {})
  const grid = await day.workbench.call('experiments.grid', { id: experiment?.id ?? '' })
  const likely = async (changes: object) => {
    const found = await day.workbench.call('experiments.preview', { grid: { ...grid, ...changes } })
    expect(found.problems).toEqual([])
    expect(found.basis).toBe('runs')
    return found.seconds?.likely ?? Number.NaN
  }
  const [first] = grid.measures
  const measured = (windows: number, sequenceLength: number) => ({
    measures: [{ kind: 'perplexity' as const, name: 'text', data: { source: day.own.test, windows, sequenceLength } }],
  })
  expect(first?.kind).toBe('perplexity')
  const few = await likely(measured(4, 64))
  const many = await likely(measured(40, 64))
  expect(many).toBeGreaterThan(few)
  expect(await likely(measured(40, 128))).toBeGreaterThan(many)
  expect(await likely({})).toBeGreaterThan(few)
  await go(page, `#/new?from=${experiment?.id}`)
  await preview().getByTitle('Based on finished runs of this model on this machine').waitFor()
  const before = await statedTime()
  const most = page.getByRole('spinbutton', { name: /at most/i }).first()
  await most.fill('150')
  await most.blur()
  await eventually(statedTime, (text) => text !== before, 20_000)
})

test('a run’s page gives every measure with its difference, the method’s own scores, and a log that tells what happened', async () => {
  const { rows } = await day.workbench.call('runs.query', {})
  const of = (method: string) => rows.find((run) => run.method === method && (run.baseline || run.nominal === 0.5))?.id ?? ''
  await go(page, `#/run/${of('2ssp')}`)
  const measures = page.getByRole('region', { name: 'Measures' })
  await measures.getByText('the unpruned model').waitFor()
  const shown = (await measures.textContent()) ?? ''
  for (const name of ['perplexity', 'speed-up', 'size', 'pruning time', 'load by others']) expect(shown).toContain(name)
  await expect.poll(() => measures.getByText(/^\+\d[\d.,]*\s+\(\+\d/).count(), { message: 'a worse perplexity' }).toBeGreaterThan(0)
  await page.getByRole('tab', { name: 'Log' }).click()
  const log = page.getByRole('region', { name: 'Log' })
  for (const line of [/round 1: attention \d+ removed, perplexity/, / s {2}perplexity, .*: \d/, / s {2}done/])
    await log.getByText(line).waitFor()

  await go(page, `#/run/${of('shortgpt')}?tab=scores`)
  await page.getByRole('list', { name: 'influence of the block' }).getByRole('listitem').nth(4).waitFor()
  await go(page, `#/run/${of('slicegpt')}?tab=scores`)
  await page.getByRole('heading', { name: 'Eigenvalues of the stream' }).waitFor()
  await page.getByText(/components are kept and hold \d/).waitFor()
  const { seconds, phaseSeconds } = await day.workbench.call('runs.get', { id: of('2ssp') })
  expect(phaseSeconds.pruning ?? Number.NaN, 'a part of the run is no longer than the run').toBeLessThanOrEqual(seconds ?? 0)
  expect(day.screen.faults).toEqual([])
})

test('the runs table groups with means, and its columns move and widen by mouse and keyboard', async () => {
  await go(page, '#/runs')
  await page.locator('tr[data-row="0"]').waitFor()
  const titles = () => page.locator('th[draggable="true"] .title').allTextContents()
  const before = await titles()
  await page.getByRole('button', { name: 'Reached', exact: true }).press('Alt+ArrowLeft')
  await eventually(titles, (now) => now.indexOf('Reached') === before.indexOf('Reached') - 1, 5000)
  const column = (title: string) => page.locator('th[draggable="true"]').filter({ hasText: title })
  // On a busy machine the pointer may be released before the browser has begun to drag.
  const drag = async () => {
    await column('Created').dragTo(column('Model'))
    return titles()
  }
  await eventually(drag, (now) => now[0] === 'Created', 5000)
  const grip = page.getByRole('separator', { name: 'Width of Model' })
  const width = Number(await grip.getAttribute('aria-valuenow'))
  await grip.press('ArrowRight')
  await eventually(
    async () => Number(await grip.getAttribute('aria-valuenow')),
    (now) => now === width + 0.5,
    5000,
  )
  await go(page, '#/experiments')
  await go(page, '#/runs')
  await eventually(titles, (now) => now[0] === 'Created', 5000)
  expect(await page.locator('tr[data-row="0"] th').evaluate((cell) => getComputedStyle(cell).position)).toBe('sticky')
  await page.getByRole('button', { name: /^Group by/ }).click()
  await page.getByRole('menuitemcheckbox', { name: 'Method' }).click()
  await page.keyboard.press('Escape')
  const groups = page.getByRole('region', { name: 'Groups of runs' })
  await groups.getByRole('row', { name: /^2SSP 2 .*±/ }).waitFor()
  await groups.getByRole('button', { name: 'ShortGPT' }).click()
  await eventually(
    () => page.locator('tr[data-row]').count(),
    (count) => count === 2,
    10_000,
  )
})

test('a comparison shows and exports the measures that were chosen, and is there again when one comes back', async () => {
  const [experiment] = await day.workbench.call('experiments.list', {})
  await go(page, `#/compare?experiment=${experiment?.id}`)
  const table = page.getByRole('region', { name: 'Comparison table' })
  await table.getByText(/^Pinned/).waitFor()
  const size = page.getByRole('menuitemcheckbox', { name: 'size' })
  // Numbers that arrive late draw the table again, which closes its menu.
  const open = async () => {
    if (!(await size.isVisible())) await table.getByRole('button', { name: 'Measures shown' }).click()
    return size.isVisible()
  }
  await eventually(open, (visible) => visible, 10_000)
  await size.click()
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
  expect(latex).not.toMatch(/& size\b/)
  await navigate('Models')
  await navigate('Compare')
  await table.getByText(/^Pinned/).waitFor()
})
