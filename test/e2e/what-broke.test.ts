import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { RunEntry } from '#contract/runs/runs.ts'
import { findAccessibilityFaults } from './accessibility.ts'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { go, openScreen, type Screen, settle } from './screens.ts'
import { timedMachine } from './timed-machine.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

let browser: Browser
let workbench: Workbench
let screen: Screen
let page: Page
let folder: string
let runs: RunEntry[]

const resources = join(import.meta.dirname, '../../resources')
const done = (count: number) =>
  eventually(
    async () => (await workbench.call('runs.query', {})).rows,
    (rows) => rows.length === count && rows.every(({ status }) => status === 'done'),
    200_000,
  )

beforeAll(async () => {
  ;[browser, workbench, folder] = await Promise.all([
    launchBrowser(),
    startWorkbench({ prepare: timedMachine }),
    mkdtemp(join(tmpdir(), 'espalier-report-')),
  ])
  const [model] = await workbench.call('models.list', {})
  const text = (name: string, windows: number) => ({ source: join(resources, 'sample-model', `${name}.txt`), sequenceLength: 128, windows })
  await workbench.call('experiments.create', {
    name: 'Broken on purpose',
    grid: {
      models: [model?.id ?? ''],
      methods: [{ method: 'shortgpt' }],
      amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }],
      calibration: text('calibration', 2),
      measures: [
        { kind: 'perplexity', data: text('test', 2), name: 'test' },
        { kind: 'tasks', tasks: ['piqa', 'arc_easy'], folder: join(resources, 'questions') },
      ],
    },
  })
  screen = await openScreen(browser, workbench)
  page = screen.page
  runs = (await done(3)).filter(({ baseline }) => !baseline)
})

afterAll(async () => {
  await browser?.close()
  await workbench?.close()
  await rm(folder, { recursive: true, force: true })
})

const picture = async (name: string) => {
  const to = process.env.ESPALIER_PICTURES
  if (to) await page.screenshot({ path: `${to}/${name}.png`, fullPage: true })
}

test('two runs are read beside the dense model: the worst token is found, and a flipped question followed', async () => {
  await go(page, `#/broke?runs=${runs.map(({ id }) => id).join(',')}`)
  await page.getByText(`, ${runs.length} chosen`).waitFor()
  const offered = page.getByRole('list', { name: /^Finished runs/ }).getByRole('checkbox')
  for (const at of runs.keys()) expect(await offered.nth(at).isChecked(), 'chosen ones come first').toBe(true)
  await page.getByRole('button', { name: 'Find what broke' }).click()
  const text = page.getByRole('grid', { name: 'The text with the divergence of each token' })
  await text.waitFor()
  const worst = page.getByRole('region', { name: 'Largest differences' }).getByRole('button').first()
  await worst.click()
  const value = await worst.locator('.number').textContent()
  await eventually(
    () => page.locator('[data-divergence]').textContent(),
    (shown) => shown === value,
    10_000,
  )
  const [inspection] = (await workbench.call('runs.query', { conditions: [{ field: 'method', is: 'equal', value: 'divergence' }] })).rows
  const detail = await workbench.call('runs.get', { id: inspection?.id ?? '' })
  const found = detail.inspected?.kind === 'divergence' ? detail.inspected.divergence.runs[0] : undefined
  expect(Number(value)).toBeCloseTo(found?.numbers.largest ?? Number.NaN, 2)

  const place = () => page.getByText(/^window \d+, token \d+$/).textContent()
  /** By key to a place that is scrolled to. */
  const goDown = async () => {
    await text.focus()
    for (const key of ['Home', '1', 'PageDown', 'PageDown', 'PageDown']) await page.keyboard.press(key)
    await settle(page)
    return place()
  }
  const before = await goDown()
  await text.locator('[data-at^="1-"]').first().hover()
  expect(await goDown(), 'text that scrolls under a resting mouse').toBe(before)
  await page.keyboard.press('ArrowLeft')
  await page.keyboard.press('2')
  expect(await place()).not.toBe(before)
  const chosen = await text.locator('[aria-selected="true"]').getAttribute('id')
  await expect.poll(() => text.getAttribute('aria-activedescendant')).toBe(chosen)

  const flips = page.getByRole('region', { name: 'Flipped questions' })
  await flips.locator('summary').first().click()
  await flips.locator('details[open]').getByText('(right)').waitFor()
  await expect.poll(() => flips.getByText(/within noise|differs/).count()).toBeGreaterThan(0)
  expect(await findAccessibilityFaults(page)).toEqual([])
  expect(screen.faults).toEqual([])
  await text.hover()
  await picture('what-broke')
})

test('the report opens from the disk without a network and without an error', async () => {
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Save report' }).click()])
  const file = join(folder, 'report.html')
  await download.saveAs(file)
  const context = await browser.newContext({ offline: true, viewport: { width: 1440, height: 900 } })
  const reader = await context.newPage()
  const messages: string[] = []
  reader.on('console', (message) => messages.push(message.text()))
  reader.on('pageerror', (error) => messages.push(error.message))
  reader.on('request', (request) => request.url().startsWith('file:') || messages.push(request.url()))
  await reader.goto(`file://${file}`)
  await reader.getByRole('heading', { level: 1, name: 'Broken on purpose' }).waitFor()
  for (const name of ['What it cost', 'Questions that flipped', 'How to repeat it'])
    await expect.poll(() => reader.getByRole('heading', { name, exact: true }).count()).toBe(1)
  await expect.poll(() => reader.getByRole('heading', { name: /worst places/ }).count()).toBe(2)
  const cut = await reader
    .locator('.scroll')
    .evaluateAll((all) => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.ariaLabel))
  expect(cut).toEqual([])
  expect(await reader.content()).not.toContain(resources)
  expect(await findAccessibilityFaults(reader)).toEqual([])
  expect(messages).toEqual([])
  await context.close()
})

test('the comparison says of which differences chance is enough to explain them', async () => {
  const ids = runs.map(({ id }) => id)
  const paired = (await workbench.call('compare.get', { ids })).runs.flatMap((run) => run.paired)
  const noise = paired.filter(({ probability }) => probability >= 0.05)
  expect(noise.length).toBeGreaterThan(0)
  await go(page, `#/compare?runs=${ids.join(',')}`)
  const table = page.getByRole('region', { name: 'Comparison table' })
  await table.waitFor()
  await eventually(
    () => table.getByText('≈ noise').count(),
    (count) => count >= noise.length,
    10_000,
  )
  const titles = await table.getByText('≈ noise').evaluateAll((marks) => marks.map((mark) => mark.getAttribute('title') ?? ''))
  const ofAnswers = titles.filter((title) =>
    /^No clear difference: [+−]\d+ points \(.* to .*\), 95 % interval over \d+ answers$/.test(title),
  )
  expect(ofAnswers.length).toBeGreaterThanOrEqual(noise.length)
})

test('ten pairs of answers are judged blind by the keyboard, and the result says who wins', async () => {
  const text = join(resources, 'sample-model', 'test.txt')
  await go(page, '#/judge')
  await page
    .getByRole('list', { name: /^Finished runs/ })
    .getByRole('checkbox')
    .first()
    .check()
  await page
    .getByRole('list', { name: /^Finished runs/ })
    .getByRole('checkbox')
    .nth(1)
    .check()
  await page.getByLabel('Prompts', { exact: true }).fill(`a person who #person\na place where #place\n${text} is\nimport garden #code`)
  await page.getByLabel('Max new tokens').fill('8')
  await page.getByRole('button', { name: 'Generate' }).click()
  await done(5)
  expect(await findAccessibilityFaults(page)).toEqual([])
  await page
    .getByRole('button', { name: /^Judge blind: / })
    .first()
    .click()
  await page.getByText('0 of 12 pairs judged').waitFor()
  await expect.poll(() => page.getByRole('main').textContent()).not.toMatch(/shortgpt|dense/i)
  const fonts = new Map<boolean, string[]>()
  for (const [vote, key] of ['a', 'b', 't', 'x', 'a', 'a', 'b', 't', 'a', 'b'].entries()) {
    const shown = await page.locator('.written').evaluateAll((texts) => texts.map((one) => getComputedStyle(one).fontFamily))
    expect(new Set(shown).size, 'one font for a prompt and both answers').toBe(1)
    const isCode = (await page.locator('.written').first().textContent()) === 'import garden'
    fonts.set(isCode, [...(fonts.get(isCode) ?? []), ...shown])
    await page.keyboard.press(key)
    await page.getByText(`${vote + 1} of 12 pairs judged`).waitFor()
  }
  expect(
    fonts.get(true)?.every((font) => /mono/i.test(font)),
    'code in a code font',
  ).toBe(true)
  expect(
    fonts.get(false)?.some((font) => /mono/i.test(font)),
    'prose in a code font',
  ).toBe(false)
  await page.reload()
  await page.getByText('10 of 12 pairs judged').waitFor()
  await page.getByRole('button', { name: 'Finish and reveal' }).click()
  const table = page.getByRole('region', { name: 'Ranking' })
  await table.waitFor()
  await expect.poll(() => table.getByRole('row').count()).toBe(4)
  await expect.poll(() => page.getByRole('region', { name: 'Table of votes' }).getByRole('row').count()).toBe(11)
  await picture('judge')
  const make = async (paths: boolean) =>
    (await workbench.call('reports.make', { runs: runs.map(({ id }) => id), format: 'markdown', paths })).content
  expect(await make(true)).toContain(`${text} is`)
  const report = await make(false)
  expect(report).toContain('Sample: test text is')
  expect(report, 'places in prompts').not.toContain(resources)
  expect(report).toContain('Judged blind')
  expect(await findAccessibilityFaults(page)).toEqual([])
  expect(screen.faults).toEqual([])
})
