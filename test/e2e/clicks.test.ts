import { readFile, stat } from 'node:fs/promises'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { type FirstDay, openFirstDay } from './first-day.ts'

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

/** Seeds are one thing in the chart of the experiment, in Compare and in the report. */
async function seedsOnEveryScreen(): Promise<void> {
  expect(await page.locator('figure').filter({ hasText: 'mean and deviation over seeds' }).locator('.whisker').count()).toBeGreaterThan(0)
  await page.getByRole('list', { name: 'Best runs' }).getByText(/±/).first().waitFor()
  await button('Compare all').click()
  await page.getByRole('checkbox', { name: 'Mean over seeds' }).waitFor()
  await page.reload()
  const table = page.getByRole('region', { name: 'Comparison table' })
  await table.getByRole('row', { name: /2SSP 25 %, 2 seeds.*±/ }).waitFor()
  await button('Make a report').click()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: /^HTML/ }).click()])
  expect(await readFile(await download.path(), 'utf8')).toMatch(/2SSP 25 %, 2 seeds.*±/s)
}

test('a researcher gets from nothing to a table over seeds for a paper in 4 clicks, over a reload', async () => {
  await page.getByRole('link', { name: 'Set up your own' }).click()
  await readLittle()
  await type('Seeds', '0-1')
  await preview().getByText('9 runs').waitFor()
  await page.reload()
  await submit(9)
  const table = page.getByRole('region', { name: 'By method and sparsity' })
  await table.getByRole('row', { name: /^2SSP .*±.*±/ }).waitFor()
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    (async () => {
      await table.getByRole('button', { name: 'Save table' }).click()
      await page.getByRole('menuitem', { name: /LaTeX/ }).click()
    })(),
  ])
  expect(download.suggestedFilename()).toMatch(/\.tex$/)
  expect(clicks).toBe(4)
  await seedsOnEveryScreen()
  expect(day.screen.faults).toEqual([])
})

test('an engineer gets from a folder and a text to a repaired GGUF file in 13 clicks, over a reload', async () => {
  clicks = 0
  await page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name: 'Models' }).click()
  await button('Add a model').click()
  await page.getByRole('dialog').waitFor()
  await page.keyboard.type(day.own.model)
  await page.keyboard.press('Enter')
  await page.getByRole('link', { name: 'own-model' }).click()
  await page.getByRole('link', { name: 'Prune', exact: true }).click()
  await page.getByRole('combobox', { name: 'Calibration data' }).selectOption({ label: 'Your own text …' })
  await type(/^Your text/, day.own.calibration)
  await readLittle()
  await button('Remove 50 %').click()
  await page.getByLabel('All at once').click()
  await preview().getByText('5 runs').waitFor()
  await page.reload()
  expect(await page.getByRole('textbox', { name: /^Your text/ }).inputValue()).toBe(day.own.calibration)
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
  const saved = (await day.workbench.call('models.list', {})).find(({ path }) => path.endsWith('.gguf'))
  expect((await stat(saved?.path ?? '')).size).toBeGreaterThan(1e5)
  expect(day.screen.faults).toEqual([])
})
