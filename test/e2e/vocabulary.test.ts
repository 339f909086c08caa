import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RunEntry } from '#contract/runs/runs.ts'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { go, openScreen, type Screen } from './screens.ts'
import { timedMachine } from './timed-machine.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

let browser: Browser
let workbench: Workbench
let page: Page
let screen: Screen
let runs: readonly RunEntry[]

beforeAll(async () => {
  ;[browser, workbench] = await Promise.all([launchBrowser(), startWorkbench({ prepare: timedMachine })])
  const [model] = await workbench.call('models.list', {})
  await workbench.call('experiments.create', {
    name: 'Fewer tokens',
    start: 'queue',
    grid: {
      models: [model?.id ?? ''],
      methods: [{ method: 'vocabulary', options: { rows: 1500, languages: ['German'] } }, { method: '2ssp' }],
      amounts: [{ sparsity: 0.25 }],
      vocabulary: { rows: 1000 },
      calibration: { source: 'mixed', sequenceLength: 128, windows: 64 },
      measures: [{ kind: 'perplexity', name: 'Prose', data: { source: 'prose', sequenceLength: 128, windows: 4 } }],
    },
  })
  screen = await openScreen(browser, workbench)
  page = screen.page
  runs = await eventually(
    async () => (await workbench.call('runs.query', {})).rows,
    (rows) => rows.length === 3 && rows.every(({ status }) => status === 'done'),
    200_000,
  )
})

afterAll(async () => {
  await browser?.close()
  await workbench?.close()
})

const picture = async (name: string) => {
  const folder = process.env.ESPALIER_PICTURES
  if (folder) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true })
}

const runOf = (method: string) => runs.find((run) => run.method === method) as RunEntry

test('a run without some rows shows what more and fewer would keep, of languages too, and reads their texts again', async () => {
  await go(page, `#/run/${runOf('vocabulary').id}?tab=vocabulary`)
  const rows = page.getByRole('slider', { name: 'Rows' })
  expect(await rows.getAttribute('aria-valuetext')).toBe('1,500 rows')
  const german = page.getByRole('row', { name: /German/ })
  expect(await german.textContent()).toContain('100 %')
  await page.getByRole('checkbox', { name: 'German' }).check()
  await page
    .getByText(/German, \d+\stokens/)
    .first()
    .waitFor({ timeout: 5000 })
  const tokensOf = async () =>
    Number(
      /\d+/.exec(
        (await page
          .getByText(/ranking text, \d+\stokens/)
          .first()
          .textContent()) ?? '',
      )?.[0],
    )
  const kept = await tokensOf()
  await rows.focus()
  await page.keyboard.press('Home')
  expect(await tokensOf()).toBeGreaterThan(kept)
  // Its tokens always stay.
  expect(await german.textContent()).toContain('100 %')
  await page.getByRole('columnheader', { name: 'Bits after' }).waitFor({ timeout: 10_000 })
  expect(await page.getByRole('row', { name: /\+\d+\.\d$/ }).count()).toBeGreaterThan(3)
  await picture('vocabulary')
  await go(page, `#/run/${runOf('vocabulary').id}?tab=decisions`)
  await page.getByText('of all parameters removed').first().waitFor()
  expect(screen.faults).toEqual([])
})

test('a method that starts from fewer tokens says so in its name, shows them too, and removes a share of the block stack', async () => {
  const run = runOf('2ssp')
  expect(run.name).toContain('1,000 tokens')
  await go(page, `#/run/${run.id}?tab=vocabulary`)
  expect(await page.getByRole('slider', { name: 'Rows' }).getAttribute('aria-valuetext')).toBe('1,000 rows')
  await go(page, `#/run/${run.id}?tab=decisions`)
  await page.getByText('of the block stack removed').first().waitFor()
  expect(screen.faults).toEqual([])
})

test('a new experiment takes a number of tokens, and languages as a list to tick', async () => {
  await go(page, `#/new?from=${runOf('vocabulary').id}`)
  const field = page.getByRole('textbox', { name: /^Vocabulary/ })
  await field.fill('ten', { timeout: 20_000 })
  await field.blur()
  await page.getByText('Enter a number of tokens such as 32000').waitFor({ timeout: 10_000 })
  await field.fill('50 %')
  await field.blur()
  await expect.poll(async () => page.getByText('Enter a number of tokens').count()).toBe(0)
  await picture('vocabulary-form')
  expect(screen.faults).toEqual([])
})
