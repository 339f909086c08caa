import { existsSync } from 'node:fs'
import { cp, mkdtemp, readFile, rename, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import type { Locator, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { seriesColours, seriesLook } from '#contract/comparison/series.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { eventually } from './eventually.ts'
import { isInWindow, type Opened, openOnScreen } from './opened.ts'
import { go } from './screens.ts'

const sample = join(import.meta.dirname, '../../resources/sample-model')
let opened: Opened
let workbench: Opened['workbench']
let page: Page
/** Of the first experiment, on the sample model. */
let runs: RunEntry[]
/** With those of a second experiment, on a second model. */
let all: RunEntry[]

/** Two small experiments that end soon, on the bundled model and on another. */
beforeAll(async () => {
  opened = await openOnScreen()
  workbench = opened.workbench
  const [model] = await workbench.call('models.list', {})
  const [preset] = await workbench.call('experiments.presets', { model: model?.id ?? '' })
  const { measures = [], calibration } = preset?.grid ?? { measures: [] }
  const perplexity = measures.flatMap((measure) =>
    measure.kind === 'perplexity' ? [{ ...measure, data: { ...measure.data, windows: 2 } }] : [],
  )
  await workbench.call('experiments.create', {
    name: 'Quick comparison',
    start: 'queue',
    grid: {
      models: [model?.id ?? ''],
      methods: ['2ssp', 'shortgpt', 'window_based'].map((method) => ({ method })),
      amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }],
      ...(calibration ? { calibration: { ...calibration, windows: 4 } } : {}),
      measures: perplexity.slice(0, 1),
    },
  })
  const other = await workbench.call('models.add', { path: await referenceModel('stories260k') })
  await workbench.call('experiments.create', {
    name: 'Another model',
    start: 'queue',
    grid: {
      models: [other.id],
      methods: [{ method: 'shortgpt' }],
      amounts: [{ sparsity: 0.4 }],
      ...(calibration ? { calibration: { ...calibration, windows: 2 } } : {}),
      measures: perplexity.slice(0, 1),
    },
  })
  page = opened.screen.page
  all = await eventually(
    async () => (await workbench.call('runs.query', {})).rows,
    (rows) => rows.length === 9 && rows.every(({ status }) => status === 'done'),
    200_000,
  )
  runs = all.filter((run) => run.model.id === model?.id)
})

afterAll(() => opened?.close())

const runOf = (method: string, nominal: number) => runs.find((run) => run.method === method && run.nominal === nominal) as RunEntry

test('the playground offers the finished runs of the chosen model, and the model links to the runs that used it', async () => {
  await go(page, `#/playground?model=${runs[0]?.model.id}`)
  await page.getByRole('button', { name: 'Add pruned models' }).click()
  await eventually(
    () => page.getByRole('dialog').getByRole('checkbox').count(),
    (count) => count === 6,
    10_000,
  )
  await page.keyboard.press('Escape')
  await go(page, `#/models/${runs[0]?.model.id}`)
  await page.getByRole('link', { name: '7 runs' }).click()
  await eventually(
    () => page.getByRole('row').count(),
    (count) => count === 8,
    10_000,
  )
  await page.getByText(`Model = ${runs[0]?.model.name}`).waitFor()
})

test('progress moves on the run page, in the queue and at the side without a reload', async () => {
  const slow = await workbench.call('runs.clone', {
    id: runOf('2ssp', 0.5).id,
    changes: { seed: 11, method: 'evopress_submodule', options: { generations: 4000 } as never },
    start: 'draft',
  })
  await go(page, `#/run/${slow.id}`)
  await workbench.call('runs.enqueue', { ids: [slow.id] })
  const glance = page.getByRole('region', { name: 'Running now' })
  const seen = new Set<string>()
  await eventually(
    async () => {
      const wire = await page
        .getByRole('region', { name: 'Progress', exact: true })
        .getByRole('progressbar')
        .getAttribute('aria-valuenow', { timeout: 500 })
        .catch(() => null)
      const side = await glance.textContent({ timeout: 500 }).catch(() => null)
      if (wire) seen.add(`page ${wire}`)
      if (side && !/starting/.test(side)) seen.add(`side ${side}`)
      return ['page', 'side'].map((place) => [...seen].filter((text) => text.startsWith(place)).length)
    },
    (counts) => counts.every((count) => count > 1),
    90_000,
  )
  // What moves has been seen; the rest of the search would show nothing more.
  await workbench.call('runs.cancel', { ids: [slow.id] })
})

test('a run that was stopped says how far it came', async () => {
  const run = await workbench.call('runs.clone', {
    id: runOf('2ssp', 0.5).id,
    changes: { seed: 12, options: { windows: 64 } as never },
    start: 'queue',
  })
  await eventually(
    async () => (await workbench.call('runs.get', { id: run.id })).progress?.done ?? 0,
    (done) => done > 0,
    30_000,
  )
  await workbench.call('runs.pause', { ids: [run.id] })
  await go(page, `#/run/${run.id}`)
  await page
    .getByRole('region', { name: 'Progress', exact: true })
    .getByText(/stopped at \d/)
    .waitFor()
  await workbench.call('runs.cancel', { ids: [run.id] })
})

test('models by typed path, with ~, model.safetensors and config.json, are added with one click over a reload; a wrong path keeps the dialog and says why', async () => {
  const other = join(await mkdtemp(join(tmpdir(), 'espalier-model-')), 'another-model')
  await cp(sample, other, { recursive: true })
  const third = join(dirname(other), 'third-model')
  await cp(await referenceModel('stories260k'), third, { recursive: true })
  await go(page, '#/models')
  await page.getByRole('button', { name: 'Add a model' }).first().click()
  const dialog = page.getByRole('dialog')
  const path = dialog.getByRole('textbox', { name: /Safetensors folder/ })
  await path.fill('/nowhere/at/all')
  await dialog.getByRole('button', { name: 'Add', exact: true }).click()
  await dialog
    .getByText(/nowhere/)
    .last()
    .waitFor()
  await expect.poll(() => dialog.isVisible()).toBe(true)
  await path.fill(`~/${relative(homedir(), join(other, 'model.safetensors'))}`)
  await path.blur()
  await dialog.getByText('Fits this machine: its weights need 11 MB').waitFor()
  await dialog.getByRole('button', { name: 'Add', exact: true }).click()
  await dialog.waitFor({ state: 'hidden' })
  await page.reload()
  await page.getByRole('link', { name: 'another-model', exact: true }).waitFor()
  await page.getByRole('button', { name: 'Add a model' }).first().click()
  await path.fill(join(third, 'config.json'))
  await path.blur()
  await dialog.getByText('Fits this machine: its weights need 1.04 MB').waitFor()
  await dialog.getByRole('button', { name: 'Add', exact: true }).click()
  await dialog.waitFor({ state: 'hidden' })
  await page.reload()
  await page.getByRole('link', { name: 'third-model', exact: true }).waitFor()
  const added = (await workbench.call('models.list', {})).filter(({ path: place }) => dirname(place) === dirname(other))
  expect(added.map(({ path: place }) => place).sort()).toEqual([other, third])
})

test.skipIf(isInWindow)('a folder that is dropped on the page opens the dialog, which says that a browser hides its place', async () => {
  await go(page, '#/models')
  const isPrevented = await page.getByRole('heading', { level: 1, name: 'Models' }).evaluate((heading) => {
    const dataTransfer = new DataTransfer()
    dataTransfer.items.add(new File(['{}'], 'my-model'))
    const event = new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true })
    heading.dispatchEvent(event)
    return event.defaultPrevented
  })
  expect(isPrevented, 'the page keeps the browser from opening the file').toBe(true)
  const dialog = page.getByRole('dialog', { name: 'Add a model' })
  await dialog.getByText('A browser does not reveal where my-model is. Find it in the list, or type its path.').waitFor()
  await dialog.getByRole('button', { name: 'Cancel' }).click()
})

test('an option beyond its bound and seeds that are none say so in a sentence, and nothing can be started', async () => {
  await go(page, '#/new')
  const seeds = page.getByRole('textbox', { name: 'Seeds' })
  await seeds.fill('abc')
  await page.getByText(/whole numbers or ranges/).waitFor()
  await expect.poll(() => page.getByRole('button', { name: 'Add to the queue' }).isDisabled()).toBe(true)
  await seeds.fill('0-2')
  await eventually(
    () => page.getByRole('button', { name: 'Add to the queue' }).isDisabled(),
    (disabled) => !disabled,
    10_000,
  )
  await page.getByRole('button', { name: /^Options of 2SSP/ }).click()
  await page.getByRole('textbox', { name: /alpha/i }).first().fill('0')
  await page.getByText('More than 0.').waitFor()
  const source = page.locator('p', { has: page.getByRole('link', { name: 'arXiv 2501.17771' }) })
  await expect.poll(() => source.textContent()).not.toContain('Our own')
  await page.getByRole('checkbox', { name: /^Gates/ }).check()
  await page.getByRole('button', { name: /^Options of Gates/ }).click()
  await page.getByText('Our own, based on arXiv 2510.18030').waitFor()
  await page.getByRole('button', { name: 'Start over' }).click()
})

/** The form and its preview, for the sample and another model, repaired and as pruned. */
async function expectTwoModels(): Promise<void> {
  for (const model of [/^sample/i, /^stories260k/]) expect(await page.getByRole('checkbox', { name: model }).first().isChecked()).toBe(true)
  const texts = page.getByRole('combobox', { name: 'Calibration data' })
  await expect.poll(() => texts.locator('option:checked').textContent()).toBe('Mixed text')
  await expect
    .poll(() => texts.getByRole('option', { name: /^Sample/ }).count(), { message: 'texts of the sample for another model' })
    .toBe(0)
  await page.getByText(/A text like what your model will read keeps more of that\./).waitFor()
  const preview = page.getByRole('complementary', { name: 'Preview' })
  await preview.getByText('42 runs').waitFor()
  const rows = await preview.getByRole('rowheader').locator('summary').allTextContents()
  expect(new Set(rows).size).toBe(40)
  expect(rows.filter((row) => /repaired/.test(row))).toHaveLength(20)
  const main = page.getByRole('main')
  const inView = [preview.getByRole('button', { name: 'Add to the queue' }), preview.getByText('42 runs')]
  for (const width of [1024, 1440]) {
    await page.setViewportSize({ width, height: 900 })
    for (const end of [0, 1e6]) {
      await main.evaluate((element, top) => element.scrollTo(0, top), end)
      for (const shown of inView) {
        const { y = -1, height = 0 } = (await shown.boundingBox()) ?? {}
        expect(y, 'in view').toBeGreaterThan(0)
        expect(y + height, 'in view').toBeLessThanOrEqual(900)
      }
    }
  }
}

test('what was chosen for an experiment is there after a reload and another screen, and every sparsity as it was typed', async () => {
  await go(page, '#/runs')
  await go(page, '#/new')
  const sparsity = page.getByRole('textbox', { name: /Add a sparsity/ })
  const name = page.getByRole('textbox', { name: 'Name' })
  const chosen = () =>
    page
      .getByRole('button', { name: /^Remove [\d.]+ %$/ })
      .evaluateAll((buttons) => buttons.map((button) => button.getAttribute('aria-label')?.slice(7)))
  await page.getByRole('button', { name: 'Remove 25 %', exact: true }).waitFor()
  for (const typed of ['33.3', '33.333', '37,5']) {
    await sparsity.pressSequentially(typed)
    await sparsity.press('Enter')
  }
  const five = ['25 %', '33.3 %', '33.333 %', '37.5 %', '50 %']
  expect(await chosen()).toEqual(five)
  // The name comes with the preview.
  const proposed = (wanted: string) =>
    eventually(
      () => name.getAttribute('placeholder'),
      (title) => title?.includes(wanted) === true,
      20_000,
    )
  await proposed('Gates and 2SSP, 25 % to 50 %')
  await name.fill('My own name')
  await page.getByRole('checkbox', { name: /^stories260k/ }).check()
  await page.getByLabel('In one pass').check()
  await page.reload()
  await eventually(chosen, (found) => found.length === five.length, 20_000)
  await expectTwoModels()
  await go(page, '#/experiments')
  await go(page, '#/new')
  await eventually(chosen, (found) => found.length === five.length, 20_000)
  expect(await chosen()).toEqual(five)
  await expect.poll(() => name.inputValue()).toBe('My own name')
  for (const amount of ['33.3 %', '37.5 %', '33.333 %']) await page.getByRole('button', { name: `Remove ${amount}`, exact: true }).click()
  expect(await chosen()).toEqual(['25 %', '50 %'])
  await page.getByRole('button', { name: 'Start over' }).click()
  await proposed('Quick look')
  expect(opened.screen.faults).toEqual([])
})

test('after ticking a box, the keys of the bar work; Shift never unticks what counts; one box chooses all', async () => {
  await go(page, '#/runs')
  await page.locator('tr[data-row="10"]').waitFor()
  const box = (at: number) => page.getByRole('table', { name: 'Runs' }).locator('tbody').getByRole('checkbox').nth(at)
  await box(0).click()
  await box(2).click({ modifiers: ['Shift'] })
  await box(1).click({ modifiers: ['Shift'] })
  await page.getByText('3 runs chosen').waitFor()
  await expect.poll(() => box(1).isChecked()).toBe(true)
  await page.keyboard.press('Escape')
  await page.getByRole('toolbar', { name: 'Chosen runs' }).waitFor({ state: 'hidden' })
  await page.getByRole('checkbox', { name: /Choose all/ }).click()
  await page.getByText(/^11 runs chosen/).waitFor()
  await page.keyboard.press('Escape')
})

/** The colours in which all that is found is drawn. */
async function coloursOf(found: Locator, property: 'fill' | 'background-color'): Promise<string[]> {
  await found.first().waitFor()
  return found.evaluateAll((all, name) => [...new Set(all.map((one) => getComputedStyle(one).getPropertyValue(name)))], property)
}

test('two models are compared over a reload: within the window, perplexities of each apart, a method in one colour here, on other screens and in the report', async () => {
  await go(page, `#/compare?runs=${all.map(({ id }) => id).join(',')}&baseline=${runOf('2ssp', 0.25).id}`)
  await page.reload()
  const marks = page.getByRole('listbox', { name: /perplexity/ }).getByRole('option')
  await eventually(
    () => marks.count(),
    (count) => count === 9,
    10_000,
  )
  await expect.poll(() => page.getByText(/Not compared with the others.*: .*\(measured on other tokens\)\./).count()).toBeGreaterThan(1)
  const main = page.getByRole('main')
  expect(await main.evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)).toBe(0)
  const table = page.getByRole('region', { name: 'Comparison table' })
  await expect.poll(() => table.getByRole('columnheader').nth(1).textContent()).toContain('perplexity')
  const written = (await main.allInnerTexts()).join('\n').split('\n')
  expect(
    written.filter((line) => /\b[a-z]+[A-Z][a-z]/.test(line)),
    'names of options as the code has them',
  ).toEqual([])
  expect(
    written.filter((line) => /(^|[ (\t])(-\d|x\d|\+[\d,]{5,} %)/.test(line)),
    'a change or a minus in another way',
  ).toEqual([])
  expect(
    await table
      .getByRole('row', { name: /stories260k/ })
      .locator('td:first-of-type .delta')
      .count(),
  ).toBe(0)
  const changes = await table.locator('.delta').allTextContents()
  expect(changes.length).toBeGreaterThan(5)
  for (const change of changes) expect(change).toMatch(/^([+−]\d[\d.]* %|×\d[\d.]*|±0)$/)

  const { light } = at(seriesColours, seriesLook('shortgpt').colour ?? Number.NaN)
  const rgb = `rgb(${[1, 3, 5].map((from) => Number.parseInt(light.slice(from, from + 2), 16)).join(', ')})`
  const legend = () =>
    page
      .getByRole('list', { name: 'Legend' })
      .first()
      .getByRole('button', { name: /^ShortGPT/ })
      .locator('path')
  expect(await coloursOf(legend(), 'fill')).toEqual([rgb])
  expect(await coloursOf(table.getByRole('row', { name: /ShortGPT/ }).locator('.swatch'), 'background-color')).toEqual([rgb])
  const saveReport = async () => {
    await page.getByRole('button', { name: 'Make a report' }).click()
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: /^HTML/ }).click()])
    return readFile(await download.path(), 'utf8')
  }
  const report = await saveReport()
  expect(report).toMatch(new RegExp(`stroke="${light}"[^]{0,160}>ShortGPT`))
  await expectWholeTables(report)
  const models = await workbench.call('models.list', {})
  const paths = models.filter(({ id }) => all.some(({ model }) => model.id === id)).map(({ path }) => path)
  expect(paths).toHaveLength(2)
  for (const path of paths) expect(report).not.toContain(dirname(path))
  await page.getByRole('button', { name: 'Make a report' }).click()
  await page.getByRole('menuitemcheckbox', { name: 'Include paths of this machine' }).click()
  await page.keyboard.press('Escape')
  const ownReport = await saveReport()
  for (const path of paths) expect(ownReport, 'paths for oneself').toContain(path)
  await go(page, '#/runs')
  const swatches = page.locator('tr[data-row]', { hasText: 'ShortGPT' }).locator('.swatch')
  expect(await coloursOf(swatches, 'background-color')).toEqual([rgb])
})

/** Opens a report of two models at 1440 pixels: each of its tables fits the page. */
async function expectWholeTables(report: string): Promise<void> {
  const reader = await opened.read(report)
  const tables = reader.locator('.scroll')
  await expect.poll(() => tables.filter({ hasText: 'stories260k' }).filter({ hasText: 'Sample model' }).count()).toBeGreaterThan(1)
  const cut = await tables.evaluateAll((all) => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.ariaLabel))
  expect(cut).toEqual([])
  await reader.close()
}

test('a run of either model says what its perplexity means, after a reload too', async () => {
  const perplexityOf = (run: RunEntry | undefined) => run?.measures.find(({ name }) => name === 'perplexity')?.value ?? Number.NaN
  for (const run of [runOf('shortgpt', 0.5), all.find(({ nominal }) => nominal === 0.4) as RunEntry]) {
    const ratio = perplexityOf(run) / perplexityOf(all.find(({ baseline, model }) => baseline && model.id === run.model.id))
    const meaning = ratio < 2 ? 'expect answers that go astray' : 'expect broken answers'
    const sentence = page.getByText(`Perplexity is ${Number(ratio.toPrecision(2))} times as high as before pruning: ${meaning}`)
    await go(page, `#/run/${run.id}`)
    await sentence.waitFor()
    await page.reload()
    await sentence.waitFor()
    expect(ratio).toBeGreaterThan(1.4)
  }
})

test('a chart of two models leaves as SVG with its title and legend and no path of this machine, as PNG and as PDF', async () => {
  await go(page, `#/compare?runs=${all.map(({ id }) => id).join(',')}`)
  await page.reload()
  const save = async (format: string) => {
    await page.getByRole('button', { name: /^Save perplexity against/i }).click()
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByText(`Save as ${format}`).click()])
    return readFile(await download.path())
  }
  const svg = (await save('SVG')).toString()
  for (const text of [/^<svg[^>]+xmlns="http:\/\/www\.w3\.org\/2000\/svg"/, /Perplexity against/, /2SSP/, /ShortGPT/, /Window-based/])
    expect(svg).toMatch(text)
  expect(svg).not.toMatch(/var\(--|light-dark/)
  for (const { path } of await workbench.call('models.list', {})) expect(svg).not.toContain(dirname(path))
  expect(Number(/viewBox="0 0 (\d+)/.exec(svg)?.[1])).toBeGreaterThan(400)
  const png = await save('PNG')
  expect(png.subarray(1, 4).toString()).toBe('PNG')
  expect(png.readUInt32BE(16)).toBeGreaterThan(800)
  const pdf = await save('PDF')
  expect(pdf.subarray(0, 5).toString()).toBe('%PDF-')
  for (const file of [png, pdf]) expect(file.length).toBeGreaterThan(5000)
})

test('a chart of one model shades its Pareto front, a staircase', async () => {
  await go(page, `#/compare?runs=${runs.map(({ id }) => id).join(',')}`)
  await page.getByText(/Shaded: the Pareto front\. No result here is better on both axes\./).waitFor()
  await expect.poll(() => page.locator('path.front').getAttribute('d')).toMatch(/^M[\d. ]+(H[\d.]+V[\d.]+)+$/)
})

test('no head of the LaTeX table says the same twice, and none has more columns than measures that were taken', async () => {
  await go(page, `#/compare?runs=${runs.map(({ id }) => id).join(',')}`)
  await page.getByRole('button', { name: 'Export the table' }).first().click()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: 'LaTeX' }).click()])
  const latex = await readFile(await download.path(), 'utf8')
  const heads = latex.split('\n').find((line) => line.includes('&') && line.includes('perplexity')) ?? ''
  const titles = heads
    .replace(/\\\\$/, '')
    .split('&')
    .map((head) => head.trim())
  expect(titles.length).toBeGreaterThan(4)
  for (const title of titles) {
    const words = title.toLowerCase().match(/[a-z]{4,}/g) ?? []
    expect(new Set(words).size, title).toBe(words.length)
  }
  expect(new Set(titles).size).toBe(titles.length)
})

test('perplexities are dots on a logarithmic axis and bars from zero on an even one, each with its name', async () => {
  await go(page, `#/compare?runs=${all.map(({ id }) => id).join(',')}`)
  await page.reload()
  const chart = page.locator('figure').filter({ hasText: 'Perplexity per data set' })
  const rows = chart.getByRole('list', { name: 'Perplexity per data set' }).getByRole('listitem')
  const placesOf = (mark: string, attribute: string) =>
    rows.locator(mark).evaluateAll((all, name) => all.map((one) => Number(one.getAttribute(name))), attribute)
  await rows.first().waitFor()
  const labels = await rows.evaluateAll((all) => all.map((row) => row.getAttribute('aria-label') ?? ''))
  const values = labels.map((label) => Number(/: ([\d.,]*\d)(, ± .*)?$/.exec(label)?.[1]?.replaceAll(',', '')))
  expect(values.filter(Number.isFinite), JSON.stringify(labels)).toHaveLength(9)
  await expect.poll(() => rows.first().locator('text').first().textContent()).toMatch(/^dense, (Sample model|stories260k)$/)
  const [least, most] = [values.indexOf(Math.min(...values)), values.indexOf(Math.max(...values))]
  const dots = await placesOf('circle', 'cx')
  const share = (of: readonly number[], at: number) => ((of[at] ?? 0) - (of[least] ?? 0)) / ((of[most] ?? 0) - (of[least] ?? 0))
  const logs = values.map(Math.log)
  for (const [at] of values.entries()) expect(share(dots, at)).toBeCloseTo(share(logs, at), 2)
  await chart.getByRole('button', { name: 'log', exact: true }).click()
  await rows.locator('rect').first().waitFor()
  const bars = await placesOf('rect', 'width')
  for (const [at, value] of values.entries()) expect((bars[at] ?? 0) / Math.max(...bars)).toBeCloseTo(value / Math.max(...values), 2)
})

/** After a reload, a legend entry takes its marks out of a chart, and dragging over the upper left part leaves that. */
async function hideAndZoom(chart: Locator, { whole, hidden, part }: { whole: number; hidden: number; part: number }): Promise<void> {
  const marks = chart.locator('svg.chart').getByRole('option')
  const count = (wanted: number) =>
    eventually(
      () => marks.count(),
      (found) => found === wanted,
      10_000,
    )
  await count(whole)
  await page.reload()
  await count(whole)
  for (const title of ['sparsity reached', /^perplexity, /]) await chart.locator('svg.chart').getByText(title).first().waitFor()
  await chart.getByRole('button', { name: 'ShortGPT' }).click()
  await count(whole - hidden)
  await chart.getByRole('button', { name: 'ShortGPT' }).click()
  await count(whole)
  await chart.scrollIntoViewIfNeeded()
  const box = await chart.locator('svg.chart').boundingBox()
  if (!box) throw new Error('The chart has no place.')
  await page.mouse.move(box.x + 59, box.y + 15)
  await page.mouse.down()
  await page.mouse.move(box.x + box.width / 2, box.y + box.height - 50, { steps: 4 })
  await page.mouse.up()
  await count(part)
  await chart.getByRole('button', { name: 'Show everything' }).click()
  await count(whole)
}

test('a legend entry hides its series, dragging over a chart shows that part of it, and marks at one place can be distinguished', async () => {
  const twin = await workbench.call('runs.clone', { id: all.find(({ nominal }) => nominal === 0.4)?.id ?? '', start: 'queue' })
  await eventually(
    () => workbench.call('runs.get', { id: twin.id }),
    ({ status }) => status === 'done',
    60_000,
  )
  await go(page, '#/experiments')
  await page.getByRole('link', { name: 'Quick comparison' }).click()
  await hideAndZoom(page.locator('figure').filter({ hasText: 'Perplexity against sparsity' }), { whole: 6, hidden: 2, part: 3 })
  await go(page, `#/compare?runs=${[...all, twin].map(({ id }) => id).join(',')}&seeds=each`)
  const chart = page.locator('figure').filter({ hasText: 'against sparsity reached' })
  await hideAndZoom(chart, { whole: 8, hidden: 4, part: 3 })
  await chart.getByText('Marks that would hide each other are moved apart.').waitFor()
  const twins = chart.getByRole('option', { name: new RegExp(`^${twin.name}, stories260k:`) }).locator('.point')
  const places = await twins.evaluateAll((points) => points.map((point) => point.getAttribute('transform')))
  expect(new Set(places).size).toBe(2)
})

test('a pinned card of a token waits for the mouse, and an opened transcript brings its own model and columns', async () => {
  const run = runOf('2ssp', 0.25)
  await go(page, `#/playground?model=${run.model.id}&runs=${run.id}`)
  await page.getByRole('button', { name: 'Generate' }).click()
  await eventually(
    async () => (await workbench.call('transcripts.query', {})).rows[0]?.status,
    (status) => status === 'done',
    60_000,
  )
  const tokens = page.locator('[data-token]')
  await tokens.nth(2).click()
  await tokens.nth(8).hover()
  const card = page.getByRole('dialog', { name: 'Alternatives of this token' })
  await card.getByRole('button').first().hover()
  await expect.poll(() => card.isVisible()).toBe(true)
  await card.getByRole('button', { name: 'Close' }).click()
  await go(page, '#/models')
  const other = (await workbench.call('models.list', {})).find(({ name }) => name === 'another-model')
  await go(page, `#/playground?model=${other?.id}`)
  await page.getByRole('button', { name: 'Transcripts' }).click()
  await page.getByRole('dialog').locator('button.open').first().click()
  await eventually(
    () => page.getByRole('combobox', { name: 'Model' }).inputValue(),
    (value) => value === run.model.id,
    10_000,
  )
  await eventually(
    () => page.getByRole('button', { name: `Remove ${run.name}` }).count(),
    (count) => count === 1,
    10_000,
  )
})

test('texts of one’s own are shown with their windows and beginning, and a folder of them gives what its files have together, and a text that calibration holds too is warned of', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'espalier-texts-'))
  const sentence = 'A horse is a large animal that is kept for riding and for pulling loads. '
  await writeFile(join(folder, 'mine.txt'), sentence.repeat(300))
  await go(page, '#/new')
  await page.getByRole('combobox', { name: 'Calibration data' }).selectOption({ label: 'Your own text …' })
  await page.getByRole('textbox', { name: 'Your text' }).first().fill(join(folder, 'mine.txt'))
  await page.getByRole('textbox', { name: 'Your text' }).first().blur()
  await page
    .getByText(/\d+ windows of\s+\d+ tokens/)
    .first()
    .waitFor()
  await page.getByText('A horse is a large animal').first().waitFor()
  const windows = async () =>
    Number(
      /([\d,]+)\s+windows of/
        .exec(
          (await page
            .getByText(/\d+ windows of\s+\d+ tokens/)
            .first()
            .textContent()) ?? '',
        )?.[1]
        ?.replace(',', ''),
    )
  const ofOne = await windows()
  await writeFile(join(folder, 'a-garden.txt'), 'A garden is a place where plants are grown. '.repeat(300))
  await page.getByRole('textbox', { name: 'Your text' }).first().fill(folder)
  await page.getByRole('textbox', { name: 'Your text' }).first().blur()
  await eventually(windows, (count) => count > 1.5 * ofOne, 20_000)
  await page.getByText('A garden is a place').first().waitFor()
  await page.getByRole('button', { name: 'Add your own text' }).click()
  await expect.poll(() => page.getByRole('button', { name: 'Add to the queue' }).isDisabled()).toBe(true)
  if (isInWindow) {
    await page.getByRole('textbox', { name: 'Your text' }).last().fill(join(folder, 'mine.txt'))
    await page.getByRole('textbox', { name: 'Your text' }).last().blur()
  } else {
    const upload = { name: 'mine.txt', mimeType: 'text/plain', buffer: Buffer.from(sentence.repeat(300)) }
    await page.getByLabel('Upload …').last().setInputFiles(upload)
  }
  await page.getByText(/100 % of its passages also occur in the calibration text/).waitFor()
  await eventually(
    () => page.getByRole('button', { name: 'Add to the queue' }).isDisabled(),
    (disabled) => !disabled,
    20_000,
  )
})

test('an experiment is a page: its grid, picture, best runs, notes and runs, and each run leads back to it', async () => {
  await go(page, '#/experiments')
  await page.getByRole('link', { name: 'Quick comparison' }).click()
  await page.getByRole('heading', { name: 'Quick comparison' }).waitFor()
  await page.getByRole('list', { name: 'Best runs' }).getByRole('listitem').nth(1).waitFor()
  await expect.poll(() => page.getByRole('region', { name: 'Runs of this experiment' }).getByRole('row').count()).toBeGreaterThan(7)
  await page.getByText('2SSP · ShortGPT · Window-based').waitFor()
  const table = page.getByRole('region', { name: /^By method and sparsity, perplexity/ })
  await expect.poll(() => table.getByRole('columnheader').allTextContents()).toEqual(['Method', '0 %', '25 %', '50 %', 'Rank'])
  // Results that do not differ clearly from the best are bold with it.
  for (const column of [3, 4]) expect(await table.locator(`td:nth-child(${column}) strong`).count()).toBeGreaterThan(0)
  const notes = page.getByRole('textbox', { name: 'Notes' })
  await notes.fill('the quick one')
  await notes.blur()
  await page.getByRole('link', { name: runOf('2ssp', 0.5).name, exact: true }).click()
  await page.getByRole('link', { name: '← Quick comparison' }).click()
  await eventually(
    () => page.getByRole('textbox', { name: 'Notes' }).inputValue(),
    (text) => text === 'the quick one',
    10_000,
  )
})

test('what each format would weigh is said before pruning, for every method, and is what the result weighs', async () => {
  await go(page, '#/new')
  const combinations = page.getByRole('region', { name: 'Combinations' })
  const formatsOf = (method: string) => combinations.getByRole('row').filter({ hasText: method }).first()
  await formatsOf('2SSP').locator('summary').click()
  await formatsOf('2SSP')
    .getByText(/^stock: .* KV cache .* for 1,000 tokens$/)
    .waitFor()
  await formatsOf('2SSP')
    .getByText(/^gguf Q4_K_M: /)
    .waitFor()
  const [grid] = await workbench.call('experiments.presets', { model: runs[0]?.model.id ?? '' })
  const { combinations: foreseen } = await workbench.call('experiments.preview', {
    grid: {
      ...(grid?.grid ?? { models: [] }),
      methods: ['2ssp', 'shortgpt', 'window_based'].map((method) => ({ method })),
      amounts: [{ sparsity: 0.5 }],
    },
  })
  for (const { method, formats } of foreseen) {
    const { formats: found } = await workbench.call('runs.formats', { id: runOf(method, 0.5).id })
    expect(formats.length).toBeGreaterThan(4)
    for (const { format, type, bytes, least } of formats) {
      const weight = found.find((one) => one.format === format && one.type === type)?.bytes ?? 0
      expect(weight).toBeGreaterThanOrEqual(least?.bytes ?? bytes ?? 0)
      expect(weight).toBeLessThanOrEqual(bytes ?? 0)
    }
  }
})

test('a model is saved in several formats at once, with its progress, and the reload test is shown beside each', async () => {
  await go(page, `#/run/${runOf('2ssp', 0.5).id}`)
  await page.getByRole('button', { name: 'Save the model …' }).click()
  const dialog = page.getByRole('dialog', { name: 'Save the pruned model' })
  await dialog.getByRole('checkbox', { name: /Q4_K_M/ }).waitFor()
  const short = dialog.getByRole('row').filter({ hasText: 'rows of this model have 128 values, which do not fill groups of 256' })
  await expect.poll(() => short.filter({ hasText: /Q4_K_M/ }).count()).toBe(1)
  await expect.poll(() => short.filter({ hasText: /Q8_0|F16|Stock/ }).count()).toBe(0)
  await dialog.locator('summary', { hasText: 'More' }).click()
  for (const name of [/Stock/, /F32/, /Q4_K_M/, /Nemotron/]) await dialog.getByRole('checkbox', { name }).check()
  await dialog.getByRole('textbox', { name: 'Name' }).fill('Halved')
  await page.evaluate(() => {
    const labels: string[] = []
    Object.assign(window, { labels })
    new MutationObserver(() => {
      const text = document.querySelector('dialog [role=status], [role=dialog] [role=status]')?.textContent
      if (text && labels.at(-1) !== text) labels.push(text)
    }).observe(document.body, { subtree: true, childList: true, characterData: true })
  })
  await dialog.getByRole('button', { name: 'Save', exact: true }).click()
  await dialog.getByText('Saved, reopened and compared.').waitFor()
  const labels = await page.evaluate(() => (window as unknown as { labels: string[] }).labels)
  expect(labels.some((text) => /MB of .*MB/.test(text))).toBe(true)
  expect(labels.some((text) => /^Reopening and comparing: .* of 5$/.test(text))).toBe(true)
  const rowOf = (name: RegExp) => dialog.getByRole('row').filter({ has: page.getByRole('rowheader', { name }) })
  for (const name of [/Exact/, /Stock/, /F32/]) expect(await rowOf(name).textContent()).toMatch(/the same\s*8 of 8/)
  await expect.poll(() => rowOf(/Q4_K_M/).textContent()).toMatch(/[+−]\d.* %\s*\d of 8/)
  await expect.poll(() => rowOf(/Nemotron/).textContent()).toContain('not opened here')
  await dialog.getByRole('button', { name: 'Close' }).last().click()
  // What was saved stays on the run's page, after a reload and in another tab too.
  const kept = page.getByRole('region', { name: 'Saved files' })
  await kept.getByText('llama.cpp').first().waitFor()
  await page.reload()
  await kept
    .getByText(/^ollama create /)
    .first()
    .waitFor()
  await expect.poll(() => kept.getByRole('button', { name: 'Copy path' }).count()).toBe(5)
  const gone = (await workbench.call('runs.saved', { id: runOf('2ssp', 0.5).id })).find(({ type }) => type === 'F32')?.path ?? ''
  await rename(gone, `${gone}.moved`)
  await page.reload()
  await kept.getByText('This is gone').waitFor()
  await expect.poll(() => kept.getByRole('button', { name: 'Copy path' }).count()).toBe(4)
  const line = await kept.getByText(/^ollama create .*q4_k_m/).textContent()
  expect(existsSync(/ -f '?([^']*)/.exec(line ?? '')?.[1] ?? '')).toBe(true)
  await rename(`${gone}.moved`, gone)
  const models = (await workbench.call('models.list', {})).filter(({ name }) => name.startsWith('Halved'))
  expect(models.map(({ name }) => name).sort()).toEqual(['Halved F32', 'Halved Q4_K_M', 'Halved exact', 'Halved stock'])
  const stock = models.find(({ name }) => name === 'Halved stock')
  const removed = (await workbench.call('runs.get', { id: runOf('2ssp', 0.5).id })).plan?.blocks.flatMap(({ attention }, block) =>
    attention === 'removed' ? [block] : [],
  )
  await go(page, `#/models/${stock?.id}`)
  await eventually(
    () => page.getByRole('option', { name: /attention all zeros/ }).count(),
    (count) => count === removed?.length && count > 0,
    10_000,
  )
  await page.reload()
  const lineage = page.getByRole('region', { name: 'Lineage' })
  await lineage.getByRole('listitem').filter({ hasText: 'Halved stock' }).getByRole('link', { name: 'by this run' }).click()
  await page.getByRole('heading', { level: 1, name: runOf('2ssp', 0.5).name }).waitFor()
})

test('Ctrl+K goes to anything by name, with the keyboard alone', async () => {
  await page.keyboard.press('Control+k')
  const input = page.getByRole('combobox', { name: /Screen, model/ })
  await input.fill('shortgpt 50')
  await page
    .getByRole('option', { name: /Run.*shortgpt 50/i })
    .first()
    .waitFor()
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: runOf('shortgpt', 0.5).name }).waitFor()
  await page.keyboard.press('Control+k')
  await input.fill('dark theme')
  await page.keyboard.press('Enter')
  expect(await page.evaluate(() => document.documentElement.dataset.theme)).toBe('dark')
  await page.evaluate(() => localStorage.removeItem('espalier.theme'))
})

test('an ablation is started from the screen, and its plot and table are shown', async () => {
  await go(page, '#/new')
  await page
    .getByRole('checkbox', { name: /^(Gates|2SSP )/, checked: true })
    .first()
    .waitFor()
  for (const name of [/^Gates/, /^2SSP /, /^ShortGPT/, /^Window-based/, /^BlockPruner/, /^EvoPress/, /^SliceGPT/]) {
    for (const box of await page.getByRole('checkbox', { name }).all()) if (await box.isChecked()) await box.uncheck()
  }
  await page.getByText('Ablations of 2SSP').click()
  await page.getByRole('checkbox', { name: /^L1 norm/ }).check()
  await page.getByRole('button', { name: /^Options of .*L1/ }).click()
  await page.getByRole('textbox', { name: 'Sparsities' }).fill('0.25, 0.5')
  await page.getByRole('textbox', { name: 'Windows' }).fill('2')
  await page.getByRole('textbox', { name: 'Windows' }).blur()
  await page.getByRole('spinbutton', { name: /at most/ }).fill('2')
  await page.getByRole('textbox', { name: 'Name' }).first().fill('Norms')
  const add = page.getByRole('button', { name: 'Add to the queue' })
  await eventually(
    () => add.isDisabled(),
    (disabled) => !disabled,
    30_000,
  )
  await page.keyboard.press('Control+Enter')
  await page.getByRole('heading', { name: 'Norms' }).waitFor()
  const study = async () => {
    const { rows } = await workbench.call('runs.query', { conditions: [{ field: 'method', is: 'equal', value: 'l1_norm' }] })
    return workbench.call('runs.get', { id: rows[0]?.id ?? '' })
  }
  const { id } = await study()
  await go(page, `#/run/${id}`)
  await eventually(
    async () => (await study()).status,
    (now) => now === 'done',
    300_000,
  )
  await page.getByRole('region', { name: 'Table of the ablation' }).waitFor()
  await expect.poll(() => page.getByRole('listbox').getByRole('option').count()).toBeGreaterThan(3)
  await expect.poll(() => page.getByRole('region', { name: 'Table of the ablation' }).getByRole('row').count()).toBeGreaterThan(3)
  await page.getByRole('button', { name: 'Save table' }).click()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: 'CSV' }).click()])
  expect(await readFile(await download.path(), 'utf8')).toMatch(/^Variant,.*Perplexity on/)
  expect(opened.screen.faults).toEqual([])
})

test('a run says in one sentence that a smaller unpruned file of its model is better', async () => {
  const prose = { kind: 'perplexity' as const, data: { source: 'prose', sequenceLength: 64, windows: 8 }, name: 'Prose' }
  const measured = (id: string, changes: object) =>
    workbench.call('runs.clone', { id, changes: { measures: [prose], ...changes }, start: 'queue' })
  const rival = await measured(runOf('dense', 0).id, { weights: 'Q8_0' })
  const pruned = await measured(runOf('2ssp', 0.5).id, {})
  await eventually(
    () => Promise.all([rival, pruned].map(({ id }) => workbench.call('runs.get', { id }))),
    (found) => found.every(({ status }) => status === 'done'),
    60_000,
  )
  await go(page, `#/run/${pruned.id}`)
  const verdict = page.locator('summary', { hasText: 'Do not prune, as far as 8 windows show: at ' })
  await expect.poll(() => verdict.textContent()).toMatch(/, dense Q8_0 is better than 2SSP 50\s%\.\s*$/)
  await verdict.click()
  await page.getByText(/^Perplexity on Prose: .* against .*, ×.* over 8 windows\. Measure 16 windows or more to be sure\. /).waitFor()
  const interval = page.getByRole('region', { name: 'Measures' }).getByTitle('95 % interval over windows or questions')
  await expect.poll(() => interval.textContent()).toMatch(/^\d[\d.,]* \[\d[\d.,]*, \d[\d.,]*\]$/)
  const neurons = page.getByRole('tab', { name: 'Neuron scores' })
  await neurons.waitFor()
  await go(page, `#/run/${rival.id}`)
  await page.getByRole('heading', { name: 'Measures' }).waitFor()
  await expect.poll(() => page.getByText(/Do not prune/).count()).toBe(0)
  expect(await neurons.count(), 'an unpruned model has no neuron scores').toBe(0)
})
