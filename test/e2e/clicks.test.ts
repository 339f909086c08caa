import { readFile, stat } from 'node:fs/promises'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { changeText, deltaOf } from '#contract/comparison/change.ts'
import type { Grid, Preset } from '#contract/experiments/experiments.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { type Clicks, countClicks, pruneOwnModel, typeInto } from './clicks.ts'
import { eventually } from './eventually.ts'
import { type FirstDay, openFirstDay } from './first-day.ts'
import { go } from './screens.ts'

let day: FirstDay
let page: Page

let clicks: Clicks

beforeAll(async () => {
  day = await openFirstDay()
  page = day.screen.page
  clicks = await countClicks(day)
})

afterAll(() => day?.close())

const button = (name: string | RegExp) => page.getByRole('button', { name })
const preview = () => page.getByRole('complementary', { name: 'Preview' })

/** Little text, so that the test is short; typing takes no click. */
async function readLittle(): Promise<void> {
  await page.getByRole('spinbutton', { name: 'Windows' }).first().fill('4')
  await page.getByRole('spinbutton', { name: /at most/ }).fill('2')
}

async function submit(runs: number): Promise<void> {
  await preview().getByText(`${runs} runs`).waitFor()
  await eventually(() => button('Add to the queue').isEnabled(), Boolean, 30_000)
  await page.keyboard.press('Control+Enter')
  const list = page.getByRole('region', { name: 'Runs of this experiment' })
  await eventually(
    () => list.getByText('done', { exact: true }).count(),
    (count) => count === runs,
    200_000,
  )
}

test('an engineer gets from a folder and a text to a repaired GGUF file in 13 clicks, over a reload', async () => {
  await pruneOwnModel(day, clicks, 'yes')
  await page.getByRole('combobox', { name: 'Calibration data' }).selectOption({ label: 'Your own text …' })
  await typeInto(page, /^Your text/, day.own.calibration)
  await readLittle()
  await button('Remove 50 %').click()
  await page.getByLabel('In one pass').click()
  await preview().getByText('5 runs').waitFor()
  await page.reload()
  await expect.poll(() => page.getByRole('textbox', { name: /^Your text/ }).inputValue()).toBe(day.own.calibration)
  // Still being typed when Ctrl+Enter is pressed.
  await page.getByRole('spinbutton', { name: /at most/ }).fill('1')
  await submit(5)
  const { rows } = await day.workbench.call('runs.query', { search: '2SSP 25 %, repaired' })
  const { request } = await day.workbench.call('runs.get', { id: rows[0]?.id ?? '' })
  expect(request.measures.map((measure) => 'data' in measure && measure.data.windows)).toEqual([1])
  await page
    .getByRole('link', { name: /2SSP 25 %, repaired/ })
    .first()
    .click()
  await button('Save the model …').click()
  const dialog = page.getByRole('dialog', { name: 'Save the pruned model' })
  await dialog.getByRole('checkbox', { name: /Q4_K_M/ }).click()
  await dialog.getByRole('button', { name: 'Save', exact: true }).click()
  await dialog.getByText('Saved, reopened and compared.').waitFor()
  expect(clicks.count).toBe(13)
  const file = (await day.workbench.call('models.list', {})).find(({ path }) => path.endsWith('.gguf'))
  expect((await stat(file?.path ?? '')).size).toBeGreaterThan(1e5)
  await go(page, `#/models/${file?.id}`)
  await page.reload()
  await page.getByRole('region', { name: 'Lineage' }).getByRole('link', { name: 'by this run' }).click()
  await page.getByRole('heading', { level: 1, name: /^2SSP 25 %, repaired/ }).waitFor()
  expect(day.screen.faults).toEqual([])
})

/** The geometric mean, as of every perplexity over seeds. */
const perplexityOf = (runs: readonly RunEntry[]) =>
  Math.exp(
    runs.reduce((sum, { measures }) => sum + Math.log(measures.find(({ name }) => name === 'perplexity')?.value ?? Number.NaN), 0) /
      runs.length,
  )

/** The page of an experiment: a deviation over seeds in the chart, the interval beside it, and the best of each model against its own dense model. */
async function bestOverSeeds(id: string, runs: readonly RunEntry[]): Promise<void> {
  await go(page, `#/experiments/${id}`)
  await page.reload()
  const chart = page.locator('figure').filter({ hasText: 'mean and deviation over seeds' })
  await chart.locator('.whisker').first().waitFor()
  const best = page.getByRole('list', { name: 'Best runs' }).getByRole('listitem')
  for (const own of Map.groupBy(runs, ({ model }) => model.id).values()) {
    const dense = perplexityOf(own.filter(({ baseline }) => baseline))
    const quarter = own.filter(({ baseline, nominal }) => !baseline && nominal === 0.25)
    const means = [...Map.groupBy(quarter, ({ method }) => method).values()].map(perplexityOf)
    const change = changeText(deltaOf(Math.min(...means), dense, true))
    const ofModel = runs.length > own.length ? best.filter({ hasText: at(own, 0).model.name }) : best
    await ofModel
      .filter({ hasText: /25 %.*\[[\d.,]+, [\d.,]+\]/ })
      .getByText(change, { exact: true })
      .waitFor()
  }
}

/** Saves what a menu of the comparison offers. */
async function save(menu: string, item: RegExp): Promise<string> {
  await button(menu).first().click()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: item }).click()])
  return readFile(await download.path(), 'utf8')
}

test('seeds are one thing for two models in two experiments: in charts, best runs, comparison, report and tables, over a reload', async () => {
  const { call } = day.workbench
  const models = (await call('models.list', {})).filter(({ name }) => /^(Sample model|own-model)$/.test(name))
  const sample = models.find(({ name }) => name === 'Sample model')?.id ?? ''
  const { grid: look } = (await call('experiments.presets', { model: sample })).find(({ id }) => id === 'quick-look') as Preset
  const grid: Grid = {
    ...look,
    // Few windows, on which seeds differ more.
    ...(look.calibration ? { calibration: { ...look.calibration, windows: 8 } } : {}),
    measures: look.measures.map((one) => (one.kind === 'perplexity' ? { ...one, data: { ...one.data, windows: 4 } } : one)),
    models: [sample],
    methods: [
      { method: '2ssp', options: {} },
      { method: 'gates', options: { steps: 4 } },
    ],
    amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }],
    seeds: [0, 1],
  }
  const { id: first } = (await call('experiments.create', { name: 'One model', grid, start: 'queue' })).experiment
  const { experiment } = await call('experiments.create', {
    name: 'Two models',
    grid: { ...grid, models: models.map(({ id }) => id), amounts: [{ sparsity: 0.25 }] },
    start: 'queue',
  })
  const runsOf = async (id: string) => (await call('runs.query', { experiment: id })).rows
  const ofBoth = await eventually(
    () => runsOf(experiment.id),
    (rows) => rows.length === 10 && rows.every(({ status }) => status === 'done'),
    100_000,
  )
  await bestOverSeeds(first, await runsOf(first))
  await bestOverSeeds(experiment.id, ofBoth)
  await go(page, `#/compare?runs=${[...(await runsOf(first)), ...ofBoth].map(({ id }) => id).join(',')}`)
  await page.getByRole('checkbox', { name: 'Mean over seeds' }).waitFor()
  await page.reload()
  const rowsNamed = (name: RegExp) => page.getByRole('region', { name: 'Comparison table' }).getByRole('row', { name })
  for (const { name } of models) await rowsNamed(new RegExp(`2SSP 25 %, 2 seeds, ${name}.*\\[[\\d.]+, [\\d.]+\\]`)).waitFor()
  await expect.poll(() => rowsNamed(/2SSP 25 %/).count()).toBe(2)
  for (const format of [/LaTeX/, /Markdown/, /CSV/]) {
    const lines = (await save('Export the table', format)).split(/\r?\n/).filter((line) => /2SSP[ &|,]+0\.250?[ &|,]/.test(line))
    expect(lines, String(format)).toHaveLength(2)
    // In CSV, a deviation and a mark of the best have columns of their own.
    for (const line of lines) expect(line).toMatch(/\[[\d.]+, [\d.]+\\?\]|(,[\d.]+,[\d.]+,(best|tied)?){2}/)
  }
  const report = await save('Make a report', /^HTML/)
  for (const { name } of models) expect(report).toMatch(new RegExp(`2SSP 25 %, 2 seeds, ${name}.*\\[[\\d.]+, [\\d.]+\\]`, 's'))
  expect(day.screen.faults).toEqual([])
})

/** The text of a file that a click saves. */
async function fileOf(click: () => Promise<void>): Promise<{ name: string; text: string }> {
  const [download] = await Promise.all([page.waitForEvent('download'), click()])
  return { name: download.suggestedFilename(), text: await readFile(await download.path(), 'utf8') }
}

test('a researcher gets 2 methods at 3 sparsities over 3 seeds into a table and a test for a paper in 11 clicks, over a reload', async () => {
  await page.evaluate(() => localStorage.setItem('espalier all settings', 'yes'))
  await go(page, '#/models')
  await page.reload()
  clicks.count = 0
  await page.getByRole('link', { name: 'Sample model' }).first().click()
  await page.getByRole('link', { name: 'Prune', exact: true }).click()
  await readLittle()
  await typeInto(page, 'Seeds', '0-2')
  await button('+ 37.5 %').click()
  await page.getByRole('checkbox', { name: /^Gates/ }).click()
  await page.getByRole('checkbox', { name: /^ShortGPT/ }).click()
  await button(/^Use .* which all methods reach$/).click()
  await preview().getByText('19 runs').waitFor()
  await page.reload()
  await submit(19)
  const table = page.getByRole('region', { name: 'By method and sparsity' })
  await table.getByRole('row', { name: /^2SSP .*\[[\d.]+, [\d.]+\]/ }).waitFor()
  expect(await table.getByText(/\(at /).count(), 'all methods reached all sparsities').toBe(0)
  expect(await page.getByRole('region', { name: 'Verdict' }).count(), 'no files of weight types were asked for').toBe(0)
  const save = (region: string) => async () => {
    await page.getByRole('region', { name: region, exact: true }).getByRole('button', { name: 'Save table' }).click()
    await page.getByRole('menuitem', { name: /LaTeX/ }).click()
  }
  const { name, text } = await fileOf(save('By method and sparsity'))
  expect(name).toMatch(/\.tex$/)
  expect(text).toMatch(
    /\\caption\{Perplexity of Sample model on .* \(2 windows of \d+ tokens (without|that begin with) BOS\) by method and sparsity; lower is better\. Geometric means over 3 seeds[.,] .*\}\n\\label\{tab:perplexity-.*-by-sparsity\}/,
  )
  const tested = await fileOf(save('Any two results'))
  expect(tested.text).toMatch(/\\caption\{2SSP .* against .*, 2 windows of \d+ tokens (without|that begin with) BOS\./)
  expect(tested.text).toMatch(/perplexity \(.*\) & .* & [13]( and [13])? & (no clear difference|the (first|second) is better) /)
  expect(clicks.count).toBe(11)
  expect(day.screen.faults).toEqual([])
})
