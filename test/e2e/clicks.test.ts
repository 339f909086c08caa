import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { changeText } from '#contract/comparison/change.ts'
import { deltaOf } from '#contract/comparison/comparison.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { eventually } from './eventually.ts'
import { type FirstDay, openFirstDay } from './first-day.ts'
import { go } from './screens.ts'

let day: FirstDay
let page: Page

beforeAll(async () => {
  day = await openFirstDay()
  page = day.screen.page
  await page.exposeFunction('countClick', () => (clicks += 1))
  await day.screen.context.addInitScript(countClicks)
  await page.evaluate(countClicks)
})

afterAll(() => day?.close())

let clicks = 0

/** Every press of the mouse counts, and every choice in a list, which takes two. */
function countClicks(): void {
  const { countClick } = window as unknown as { countClick: () => void }
  addEventListener('pointerdown', (event) => event.isTrusted && countClick(), true)
  const countChoice = ({ target }: Event) => {
    for (let press = 0; target instanceof HTMLSelectElement && press < 2; press += 1) countClick()
  }
  addEventListener('change', countChoice, true)
}

const button = (name: string | RegExp) => page.getByRole('button', { name })
const preview = () => page.getByRole('complementary', { name: 'Preview' })

/** As with a mouse: a press into the field first. */
async function type(name: string | RegExp, text: string): Promise<void> {
  const field = page.getByRole('textbox', { name })
  await field.click()
  await field.fill(text)
  await field.blur()
}

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

test('a researcher gets from nothing to a table over seeds for a paper in 4 clicks, over a reload', async () => {
  await page.getByRole('link', { name: 'Set up your own' }).click()
  await readLittle()
  await type('Seeds', '0-1')
  await preview().getByText('9 runs').waitFor()
  await page.reload()
  await submit(9)
  const table = page.getByRole('region', { name: 'By method and sparsity' })
  await table.getByRole('row', { name: /^2SSP .*(±|×\/÷).*(±|×\/÷)/ }).waitFor()
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    (async () => {
      await table.getByRole('button', { name: 'Save table' }).click()
      await page.getByRole('menuitem', { name: /LaTeX/ }).click()
    })(),
  ])
  expect(download.suggestedFilename()).toMatch(/\.tex$/)
  expect(clicks).toBe(4)
  expect(day.screen.faults).toEqual([])
})

test('an engineer gets from a folder and a text to a repaired GGUF file in 13 clicks, over a reload', async () => {
  clicks = 0
  await page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name: 'Models' }).click()
  await button('Add a model').click()
  await page.getByRole('dialog').waitFor()
  await page.keyboard.type(join(day.own.model, 'config.json'))
  await page.keyboard.press('Enter')
  await page.getByRole('link', { name: 'own-model' }).click()
  await page.getByRole('link', { name: 'Prune', exact: true }).click()
  await page.getByRole('combobox', { name: 'Calibration data' }).selectOption({ label: 'Your own text …' })
  await type(/^Your text/, day.own.calibration)
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
  expect(clicks).toBe(13)
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

/** The page of an experiment: a deviation over seeds, and the best of each model against its own dense model. */
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
      .filter({ hasText: /25 %.*(±|×\/÷)/ })
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
  const first = (await call('experiments.list', {})).at(-1)?.id ?? ''
  const grid = { ...(await call('experiments.grid', { id: first })), models: models.map(({ id }) => id), amounts: [{ sparsity: 0.25 }] }
  const { experiment } = await call('experiments.create', { name: 'Two models', grid, start: 'queue' })
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
  for (const { name } of models) await rowsNamed(new RegExp(`2SSP 25 %, 2 seeds, ${name}.*(±|×/÷)`)).waitFor()
  await expect.poll(() => rowsNamed(/2SSP 25 %/).count()).toBe(2)
  for (const format of [/LaTeX/, /Markdown/, /CSV/]) {
    const lines = (await save('Export the table', format)).split(/\r?\n/).filter((line) => /2SSP[ &|,]+0\.250?[ &|,]/.test(line))
    expect(lines, String(format)).toHaveLength(2)
    // In CSV, a deviation and a mark of the best have columns of their own.
    for (const line of lines) expect(line).toMatch(/±|×\/÷|times\/|\\pm|(,[\d.]+,[\d.]+,(best|tied)?){2}/)
  }
  const report = await save('Make a report', /^HTML/)
  for (const { name } of models) expect(report).toMatch(new RegExp(`2SSP 25 %, 2 seeds, ${name}.*(±|×/÷)`, 's'))
  expect(day.screen.faults).toEqual([])
})
