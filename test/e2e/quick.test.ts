import { copyFile, readFile, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { findAccessibilityFaults } from './accessibility.ts'
import { countClicks, pruneOwnModel, typeInto } from './clicks.ts'
import { eventually } from './eventually.ts'
import { type FirstDay, openFirstDay } from './first-day.ts'
import { go, settle, watchShifts } from './screens.ts'

let day: FirstDay
let page: Page

beforeAll(async () => {
  day = await openFirstDay()
  page = day.screen.page
  await page.evaluate(() => localStorage.setItem('espalier all settings', 'no'))
})

afterAll(() => day?.close())

const questions = () => page.getByRole('region', { name: 'Three questions' })
const quick = () => questions().getByRole('button', { name: 'Quick answer' })

test('the form asks three questions, and all settings are folded until they are wanted', async () => {
  await go(page, '#/new')
  await questions().getByRole('radio', { name: 'General text' }).waitFor()
  const moved = await watchShifts(page)
  await questions().getByRole('slider', { name: 'File size' }).waitFor()
  await settle(page)
  expect(await moved()).toEqual([])
  expect(await findAccessibilityFaults(page, ['light', 'dark'])).toEqual([])
  expect(await page.getByRole('complementary', { name: 'Preview' }).count()).toBe(0)
  await page.getByRole('button', { name: 'All settings' }).click()
  await page
    .getByRole('complementary', { name: 'Preview' })
    .getByText(/^\d+ runs/)
    .waitFor()
  await page.reload()
  await page.getByRole('complementary', { name: 'Preview' }).waitFor()
  await page.getByRole('button', { name: 'All settings' }).click()
  expect(await page.getByRole('textbox', { name: 'Name', exact: true }).count()).toBe(0)
})

test('a programmer gets from a folder of a model and a text of their own to a verdict in 7 clicks, and to a GGUF file in 9', async () => {
  const clicks = await countClicks(day)
  await pruneOwnModel(day, clicks, 'no')
  await page.getByText('Files of my own').click()
  await typeInto(page, 'Your files', day.own.calibration)
  const place = await quick().boundingBox()
  await questions()
    .getByText(/^Kept to decide: \d+ /)
    .waitFor()
  await questions().getByRole('blockquote').waitFor()
  expect(await quick().boundingBox(), 'the preview of a text has its room before it arrives').toMatchObject({ y: place?.y })
  await eventually(() => quick().isEnabled(), Boolean, 60_000)
  await questions()
    .getByText(/^\d+ runs, .* against \d unpruned files?/)
    .waitFor()
  await quick().click()
  await page.getByRole('heading', { level: 1, name: /^own-model at .*, own-calibration.txt/ }).waitFor()
  const verdict = page.getByRole('region', { name: 'Verdict' })
  const answer = verdict.getByRole('status').getByText(/^For your own-calibration.txt: /)
  await answer.waitFor({ timeout: 200_000 })
  expect(clicks.count).toBe(7)
  // While runs are left, the page changes with each that ends.
  await verdict.getByText('so far, while runs are left').waitFor({ state: 'hidden' })
  expect(await findAccessibilityFaults(page, ['light', 'dark'])).toEqual([])
  // Nothing moves when the page is opened again and its answers arrive one by one.
  const { hash } = new URL(page.url())
  await go(page, '#/judge')
  await page.getByRole('list', { name: /^Finished runs/ }).waitFor()
  await settle(page)
  const moved = await watchShifts(page)
  await go(page, hash)
  await answer.waitFor()
  await settle(page)
  expect(await moved()).toEqual([])

  await verdict.getByRole('link', { name: /^Save (this|the pruned) file/ }).click()
  const dialog = page.getByRole('dialog', { name: /^Save the / })
  await dialog.getByRole('button', { name: 'Save', exact: true }).click()
  await dialog.getByText('Saved, reopened and compared.').waitFor()
  expect(clicks.count).toBe(9)
  const file = (await day.workbench.call('models.list', {})).find(({ path }) => path.endsWith('.gguf'))
  expect((await stat(file?.path ?? '')).size).toBeGreaterThan(1e5)
  // What the run came to, and what to do next, are in view without scrolling.
  await dialog.getByRole('button', { name: 'Close' }).last().click()
  for (const name of ['Next steps', 'Measures']) {
    const box = await page.getByRole('region', { name }).boundingBox()
    expect((box?.y ?? 900) + (name === 'Measures' ? 100 : (box?.height ?? 0)), name).toBeLessThan(900)
  }
  await go(page, hash)
  await verdict.getByRole('link', { name: 'All files' }).click()
  await page.getByRole('region', { name: 'Files', exact: true }).waitFor()
  expect(day.screen.faults).toEqual([])
})

test('a chart of the dark theme is saved for a white page: in dark ink, without a ground, and with its caption', async () => {
  const [experiment] = await day.workbench.call('experiments.list', {})
  await go(page, `#/experiments/${experiment?.id}`)
  await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' })
  await page.getByRole('button', { name: /^Save Perplexity against/ }).click()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: 'Save as SVG' }).click()])
  const svg = await readFile(await download.path(), 'utf8')
  expect(svg).toMatch(/^<svg [^>]*><title>Perplexity against /)
  expect(svg).toMatch(/<text [^>]*fill="rgb\(28, 35, 30\)"[^>]*>[^<]*own-calibration\.txt/)
  const words = svg.replaceAll(/<[^>]+>/g, ' ').replaceAll(/\s+/g, ' ')
  expect(words).toMatch(/Results of \S+: perplexity .* on \d+ windows? of [\d,]+ tokens (without|that begin with) BOS\./)
  const [, width] = /viewBox="0 0 (\d+)/.exec(svg) ?? []
  expect(svg, 'a ground').not.toMatch(new RegExp(`<rect [^>]*width="${width}"`))
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' })
})

test('a word with a dotted line explains itself, by mouse and by keyboard', async () => {
  const [experiment] = await day.workbench.call('experiments.list', {})
  const { rows } = await day.workbench.call('runs.query', { experiment: experiment?.id ?? '' })
  await go(page, `#/run/${rows[0]?.id}`)
  const term = page.getByRole('region', { name: 'Measures' }).getByRole('button', { name: 'perplexity' }).first()
  const note = page.getByText('How surprised a model is by a text', { exact: false }).first()
  await term.click()
  await note.waitFor()
  await page.keyboard.press('Escape')
  await note.waitFor({ state: 'hidden' })
  await term.focus()
  await page.keyboard.press('Enter')
  await note.waitFor()
  await page.keyboard.press('Escape')
  await go(page, `#/run/${rows[0]?.id}?save=yes`)
  await page.getByRole('dialog', { name: /^Save the / }).waitFor()
  expect(day.screen.faults).toEqual([])
})

test('a run that failed says why in the table of runs', async () => {
  const { call } = day.workbench
  const [model] = await call('models.list', {})
  const source = join(dirname(day.own.calibration), 'gone.txt')
  await copyFile(day.own.calibration, source)
  const request = { method: 'shortgpt', amount: { sparsity: 0.25 }, options: {}, seed: 0, measures: [], backend: 'auto' as const }
  const calibration = { source, sequenceLength: 64, windows: 2 }
  const asked = { model: model?.id ?? '', request: { ...request, calibration }, name: 'Text is gone' }
  const { id } = await call('runs.create', { ...asked, start: 'draft' })
  await rm(source)
  await call('runs.enqueue', { ids: [id] })
  const { problem } = await eventually(
    () => call('runs.get', { id }),
    ({ status }) => status === 'failed',
    60_000,
  )
  await go(page, '#/runs')
  const row = page.getByRole('row', { name: /Text is gone/ })
  await row.getByText(problem?.message ?? '', { exact: true }).waitFor()
  // Within the margins of the page, as its title is.
  const [table, title] = [
    await page.getByRole('table', { name: 'Runs' }).boundingBox(),
    await page.getByRole('heading', { level: 1 }).boundingBox(),
  ]
  expect(table?.x).toBeCloseTo(title?.x ?? 0, 0)
  // `main-path` looks at the rest of the screen.
  expect(await findAccessibilityFaults(page, ['light', 'dark'], 'main table')).toEqual([])
})

test('the playground compares with the likeliest tokens, and sets code in a font for code', async () => {
  const { rows } = await day.workbench.call('runs.query', { conditions: [{ field: 'baseline', is: 'equal', value: false }] })
  const pruned = rows.find(({ hasPlan, method }) => hasPlan && method !== 'dense')
  await go(page, `#/playground?runs=${pruned?.id}`)
  await expect.poll(() => page.getByRole('slider', { name: 'Temperature' }).inputValue()).toBe('0')
  const fontOf = async (text: string) => {
    await page.getByRole('textbox', { name: 'Prompt' }).fill(text)
    await page.getByRole('slider', { name: 'New tokens' }).fill('8')
    await page.getByRole('button', { name: 'Generate', disabled: false }).click()
    const answers = page.getByRole('region', { name: 'Answers', exact: true })
    await answers
      .getByText(text.split('\n')[0] ?? '', { exact: false })
      .first()
      .waitFor()
    await answers.getByText('done', { exact: true }).waitFor()
    const answer = page.getByRole('group', { name: /^Answer of/ }).first()
    return answer.evaluate((element) => getComputedStyle(element).fontFamily)
  }
  expect(await fontOf('def area(width, height):\n    return')).toMatch(/mono/i)
  expect(await fontOf('A garden is')).not.toMatch(/mono/i)
  expect(await findAccessibilityFaults(page, ['light', 'dark'])).toEqual([])
  expect(day.screen.faults).toEqual([])
})
