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
let pruned: RunEntry

const done = (count: number) =>
  eventually(
    async () => (await workbench.call('runs.query', {})).rows,
    (rows) => rows.length === count && rows.every(({ status }) => status === 'done'),
    200_000,
  )

beforeAll(async () => {
  ;[browser, workbench] = await Promise.all([launchBrowser(), startWorkbench({ prepare: timedMachine })])
  const [model] = await workbench.call('models.list', {})
  const [preset] = await workbench.call('experiments.presets', { model: model?.id ?? '' })
  const { measures = [], calibration } = preset?.grid ?? { measures: [] }
  const [perplexity] = measures.flatMap((measure) =>
    measure.kind === 'perplexity' ? [{ ...measure, data: { ...measure.data, windows: 4 } }] : [],
  )
  await workbench.call('experiments.create', {
    name: 'To be repaired',
    start: 'queue',
    grid: {
      models: [model?.id ?? ''],
      methods: [{ method: '2ssp' }],
      amounts: [{ sparsity: 0.5 }],
      ...(calibration ? { calibration: { ...calibration, windows: 8 } } : {}),
      measures: perplexity ? [perplexity] : [],
    },
  })
  screen = await openScreen(browser, workbench)
  page = screen.page
  pruned = (await done(2)).find(({ method }) => method === '2ssp') as RunEntry
})

afterAll(async () => {
  await browser?.close()
  await workbench?.close()
})

/** Pictures to look at, wide and narrow, light and dark, where a folder for them is named. */
const picture = async (name: string) => {
  const folder = process.env.ESPALIER_PICTURES
  if (!folder) return
  const usual = page.viewportSize()
  for (const width of [1440, 800])
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.setViewportSize({ width, height: 1000 })
      await page.emulateMedia({ colorScheme })
      await page.screenshot({ path: `${folder}/${name}-${width}-${colorScheme}.png`, fullPage: true })
    }
  await page.emulateMedia({ colorScheme: 'light' })
  if (usual) await page.setViewportSize(usual)
}

test('a finished run is repaired from its page, and the new run stands beside it with the change of perplexity', async () => {
  await go(page, `#/run/${pruned.id}`)
  expect(screen.faults).toEqual([])
  await page.getByRole('button', { name: 'Repair this run' }).click()
  await page.getByRole('dialog').getByLabel('Windows').fill('16')
  await page
    .getByRole('dialog')
    .getByText(/^Takes (about|under|\d)/)
    .waitFor()
  await picture('dialog')
  await page.getByRole('dialog').getByRole('button', { name: 'Repair', exact: true }).click()
  const rows = await done(3)
  const repaired = rows.find(({ parent }) => parent === pruned.id) as RunEntry
  expect(repaired.name).toContain('repaired block by block')
  const value = (run: RunEntry) => run.measures.find(({ name }) => name === 'perplexity')?.value ?? Number.NaN
  expect(value(repaired)).toBeLessThan(value(pruned))
  await go(page, `#/run/${repaired.id}`)
  await page.getByRole('region', { name: 'Compared with the original run' }).getByText('Compare the two').waitFor()
  await picture('run')
  await page.getByRole('tab', { name: 'Repair' }).click()
  await expect.poll(() => page.getByRole('region', { name: 'Errors of each projection' }).getByRole('row').count()).toBeGreaterThan(12)
  await picture('repair')
})

test('Compare shows both, and leaves the repaired one out on demand', async () => {
  const { rows } = await workbench.call('runs.query', {})
  await go(page, `#/compare?runs=${rows.map(({ id }) => id).join(',')}`)
  await page.getByRole('button', { name: '2SSP, repaired block by block' }).waitFor()
  await picture('compare')
  await page.getByRole('button', { name: 'repaired', exact: true }).click()
  await eventually(
    () => page.getByRole('button', { name: '2SSP, repaired block by block' }).count(),
    (count) => count === 0,
    30_000,
  )
})

test('a new experiment offers each repair, as many runs again, fitted on several texts with shares', async () => {
  await go(page, '#/new')
  await page.getByRole('region', { name: 'Preview' }).or(page.getByLabel('Preview')).first().waitFor()
  await page.getByRole('checkbox', { name: /^Gates/, checked: true }).waitFor()
  await page.getByLabel('Block by block').check()
  const text = page.getByLabel('Repair text')
  // The bundled model knows no other text than its own; the preview says so.
  await eventually(
    () => text.locator('option:checked').textContent(),
    (title) => /calibration/i.test(title ?? ''),
    20_000,
  )
  await text.selectOption({ label: 'Mix several texts …' })
  const queue = page.getByRole('button', { name: 'Add to the queue' })
  await expect.poll(() => queue.isDisabled()).toBe(true)
  await page.getByLabel('Text 2', { exact: true }).selectOption({ label: 'Mixed text' })
  await page
    .getByRole('spinbutton', { name: /^Share/ })
    .first()
    .fill('3')
  await page
    .getByRole('spinbutton', { name: /^Share/ })
    .last()
    .fill('1')
  await page
    .getByRole('spinbutton', { name: /^Share/ })
    .last()
    .blur()
  await page.getByText('(25 %)').waitFor()
  await picture('new')
  await eventually(
    () => queue.isDisabled(),
    (disabled) => !disabled,
    20_000,
  )
  await page.getByRole('textbox', { name: 'Name' }).fill('On two texts')
  await page.getByRole('button', { name: 'Save as draft' }).click()
  const drafts = await eventually(
    async () => (await workbench.call('runs.query', {})).rows.filter(({ status }) => status === 'draft'),
    (rows) => rows.length > 1,
    20_000,
  )
  const requests = await Promise.all(drafts.map(async ({ id }) => (await workbench.call('runs.get', { id })).request))
  const [mixed] = requests.flatMap(({ repair }) => (repair ? [repair.calibration] : []))
  expect(mixed?.mix?.map(({ share }) => share)).toEqual([3, 1])
  expect(mixed?.mix?.[1]?.source).toBe('mixed')
  expect(mixed?.windows).toBe(96)
})
