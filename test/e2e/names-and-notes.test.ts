import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openWorkbench } from '#services/workbench.ts'
import { findAccessibilityFaults } from './accessibility.ts'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { go, openScreen, type Screen, settle } from './screens.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

let browser: Browser
let workbench: Workbench
let screen: Screen
let page: Page
let dataFolder = ''

beforeAll(async () => {
  workbench = await startWorkbench({
    prepare: async (folder) => {
      dataFolder = folder
    },
  })
  browser = await launchBrowser()
  screen = await openScreen(browser, workbench)
  page = screen.page
})

afterAll(async () => {
  await browser?.close()
  await workbench?.close()
})

/** A run that never starts. */
async function makeDraft(name: string): Promise<string> {
  const [model] = await workbench.call('models.list', {})
  const measures = [{ kind: 'inference' as const, sequenceLength: 16, repeats: 1 }]
  const request = { method: 'dense', amount: { sparsity: 0 }, options: {}, seed: 0, measures, backend: 'auto' as const }
  return (await workbench.call('runs.create', { model: model?.id ?? '', request, name, start: 'draft' })).id
}

const notesOf = async (id: string) => (await workbench.call('runs.get', { id })).notes

test('notes edited in two tabs lose nothing: the later save is refused and shows the other text', async () => {
  const id = await makeDraft('two tabs')
  const address = `#/run/${id}?tab=details`
  await go(page, address)
  const other = await screen.context.newPage()
  await other.goto(`${workbench.address}${address}`)
  const fieldOf = (tab: Page) => tab.getByRole('textbox', { name: 'Notes' })
  await fieldOf(page).fill('typed here')
  await fieldOf(other).fill('typed there')
  await fieldOf(other).blur()
  await eventually(
    () => notesOf(id),
    (notes) => notes === 'typed there',
    10_000,
  )
  await fieldOf(page).blur()
  const conflict = page.getByRole('group', { name: 'Notes changed elsewhere' })
  await conflict.getByText('typed there').waitFor()
  expect(await fieldOf(page).inputValue()).toBe('typed here')
  expect(await notesOf(id)).toBe('typed there')

  // What was typed is there after a reload too, beside the other text.
  await page.reload()
  await conflict.getByText('typed there').waitFor()
  expect(await fieldOf(page).inputValue()).toBe('typed here')
  await conflict.getByRole('button', { name: 'Save mine instead' }).click()
  await conflict.waitFor({ state: 'detached' })
  await eventually(
    () => notesOf(id),
    (notes) => notes === 'typed here',
    10_000,
  )
  await expect.poll(() => fieldOf(other).inputValue()).toBe('typed here')
  await other.close()

  // Another process: its change is not announced to this page.
  await fieldOf(page).fill('typed after')
  await workbench.call('runs.update', { ids: [id], notes: 'from the command line' })
  await fieldOf(page).blur()
  await conflict.getByText('from the command line').waitFor()
  await conflict.getByRole('button', { name: 'Discard mine' }).click()
  expect(await fieldOf(page).inputValue()).toBe('from the command line')
  await page.reload()
  await settle(page)
  expect(await fieldOf(page).inputValue()).toBe('from the command line')
  expect(screen.faults).toEqual([])
})

test('tags and notes of several runs replace notes only where the user says so', async () => {
  const ids = [await makeDraft('noted one'), await makeDraft('noted two')]
  await workbench.call('runs.update', { ids: ids.slice(0, 1), notes: 'keep me' })
  await go(page, '#/runs?search=noted')
  await settle(page)
  for (const name of ['noted one', 'noted two']) await page.getByRole('checkbox', { name: `Choose ${name}`, exact: true }).check()
  await page.getByRole('button', { name: 'More for the chosen runs' }).click()
  await page.getByRole('menuitem', { name: 'Tags and notes …' }).click()
  const dialog = page.getByRole('dialog', { name: 'Tags and notes' })
  const notes = dialog.getByRole('textbox', { name: 'Notes' })
  expect(await notes.isDisabled()).toBe(true)
  await dialog.getByText('1 of them has notes.').waitFor()
  await dialog.getByRole('textbox', { name: /^Add a tag/ }).fill('both')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await eventually(
    () => workbench.call('runs.get', { id: ids[1] as string }),
    ({ tags }) => tags.includes('both'),
    10_000,
  )
  expect(await notesOf(ids[0] as string)).toBe('keep me')
})

test('lists show what another process changed on the same data folder, without a reload', async () => {
  const id = await makeDraft('made here')
  const other = await openWorkbench({ folder: dataFolder, worksQueue: false, bundledModel: null })
  const [model] = await other.call('models.list', {})
  await go(page, '#/runs?search=made')
  await page.getByRole('link', { name: 'made here', exact: true }).waitFor()
  await other.call('runs.update', { ids: [id], name: 'made renamed' })
  await page.getByRole('link', { name: 'made renamed', exact: true }).waitFor()
  await go(page, `#/compare?runs=${id}`)
  await page
    .getByText(/^made renamed/)
    .first()
    .waitFor()
  await other.call('runs.update', { ids: [id], name: 'compared again' })
  await page
    .getByText(/^compared again/)
    .first()
    .waitFor()
  await go(page, '#/models')
  await page
    .getByText(model?.name ?? '', { exact: true })
    .first()
    .waitFor()
  await other.call('models.update', { id: model?.id ?? '', name: 'model of another' })
  await page.getByText('model of another', { exact: true }).first().waitFor()
  await go(page, '#/experiments')
  const grid = { models: [model?.id ?? ''], methods: [{ method: 'dense' }], amounts: [{ sparsity: 0 }] }
  await other.call('experiments.create', { name: 'of another process', grid, start: 'draft' })
  await page.getByText('of another process').waitFor()
  await other.call('models.update', { id: model?.id ?? '', name: model?.name ?? '' })
  await other.close()
  expect(screen.faults).toEqual([])
})

test('the playground keeps its sampling settings over a reload, beside a transcript too', async () => {
  const [model] = await workbench.call('models.list', {})
  await go(page, `#/playground?model=${model?.id}`)
  const slider = (name: string) => page.getByRole('slider', { name })
  const seed = page.getByRole('spinbutton', { name: /Seed/ })
  const values = async () => [await slider('Temperature').inputValue(), await slider('New tokens').inputValue(), await seed.inputValue()]
  await settle(page)
  await slider('Temperature').fill('0.3')
  await slider('New tokens').fill('24')
  await seed.fill('7')
  await seed.blur()
  await page.reload()
  await settle(page)
  await expect.poll(values).toEqual(['0.3', '24', '7'])
  await page.getByRole('textbox', { name: 'Prompt' }).fill('A garden is')
  await page.getByRole('button', { name: 'Generate', disabled: false }).click()
  await page.getByRole('region', { name: 'Answers', exact: true }).getByText('done', { exact: true }).waitFor()
  await slider('Temperature').fill('0.5')
  await page.reload()
  await settle(page)
  await expect.poll(values).toEqual(['0.5', '24', '7'])
})

/** Two hundred characters without a place to break, as file names have. */
const long = (what: string) => `${what}_${'m'.repeat(199 - what.length)}`

/** What reaches over the right edge of the page, or is covered by another part of it. */
async function findOverflow(): Promise<string[]> {
  return page.evaluate(() => {
    const clips = (element: Element) => /auto|scroll|hidden|clip/.test(getComputedStyle(element).overflowX)
    const isClipped = (element: Element): boolean => {
      for (let outer = element.parentElement; outer && outer !== document.body; outer = outer.parentElement) if (clips(outer)) return true
      return false
    }
    const wide = [...document.querySelectorAll('main *, nav *')].filter((element) => {
      const { right, width } = element.getBoundingClientRect()
      return width > 0 && right > innerWidth + 1 && !isClipped(element)
    })
    const { scrollWidth } = document.scrollingElement as Element
    return [
      ...(scrollWidth > innerWidth ? [`the page is ${scrollWidth} px wide`] : []),
      ...wide.slice(0, 5).map((element) => `${element.tagName} ${element.className}: ${element.textContent?.trim().slice(0, 30)}`),
    ]
  })
}

test('names of 200 characters break no layout at 800 px, no head of Runs breaks there, and its last column is whole at 1440 px', async () => {
  const { call } = workbench
  const [model] = await call('models.list', {})
  const [preset] = await call('experiments.presets', { model: model?.id ?? '' })
  const calibration = preset?.grid.calibration && { ...preset.grid.calibration, windows: 2, sequenceLength: 64 }
  const grid = {
    models: [model?.id ?? ''],
    methods: [{ method: 'shortgpt' }],
    amounts: [{ sparsity: 0.25 }],
    measures: [{ kind: 'inference' as const, sequenceLength: 16, repeats: 1 }],
    ...(calibration ? { calibration } : {}),
  }
  const { experiment, runs } = await call('experiments.create', { name: long('experiment'), grid })
  const ids = runs.map(({ id }) => id)
  const statuses = async () => Promise.all(ids.map(async (id) => (await call('runs.get', { id })).status))
  await eventually(statuses, (found) => found.every((status) => status === 'done'), 120_000)
  const before = model?.name ?? ''
  await call('models.update', { id: model?.id ?? '', name: long('model'), tags: ['t'.repeat(60)] })
  for (const [at, id] of ids.entries()) await call('runs.update', { ids: [id], name: long(`run${at}`), addTags: ['t'.repeat(60)] })
  const pruned = runs.find(({ baseline }) => !baseline)?.id
  const screens = [
    ...['#/models', `#/models/${model?.id}`, '#/experiments', `#/experiments/${experiment.id}`, `#/run/${pruned}`],
    ...[`#/run/${pruned}?tab=details`, '#/runs', `#/compare?experiment=${experiment.id}`, `#/playground?runs=${pruned}`, '#/new'],
  ]
  const found: Record<string, string[]> = {}
  for (const width of [800, 1440]) {
    await page.setViewportSize({ width, height: 900 })
    for (const hash of screens) {
      await go(page, hash)
      await settle(page)
      const faults = await findOverflow()
      if (faults.length > 0) found[`${width} ${hash}`] = faults
    }
  }
  expect(found).toEqual({})

  await go(page, '#/runs')
  await settle(page)
  await page.setViewportSize({ width: 800, height: 900 })
  const heads = page.getByRole('table', { name: 'Runs' }).getByRole('columnheader').locator('.title')
  const broken = await heads.evaluateAll((titles) =>
    titles
      .filter((title) => {
        const range = document.createRange()
        range.selectNodeContents(title)
        return !title.textContent.includes(' ') && new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size > 1
      })
      .map(({ textContent }) => textContent),
  )
  expect(broken, 'heads of one word in two lines').toEqual([])
  await page.setViewportSize({ width: 1440, height: 900 })
  const edges = await page.getByRole('table', { name: 'Runs' }).evaluate((table) => {
    const last = [...table.querySelectorAll('thead th, thead td')].at(-1) as Element
    let scroll = table.parentElement as HTMLElement
    while (!/auto|scroll/.test(getComputedStyle(scroll).overflowX) && scroll.parentElement) scroll = scroll.parentElement
    return { column: last.getBoundingClientRect().right, frame: scroll.getBoundingClientRect().right }
  })
  expect(edges.column).toBeLessThanOrEqual(edges.frame + 1)
  await call('models.update', { id: model?.id ?? '', name: before, tags: [] })
})

test('generated answers are in a table, a row for each prompt and code in a code font, and are saved from their page', async () => {
  const { rows: all } = await workbench.call('runs.query', { limit: 20 })
  const inspected = all.find(({ status, hasPlan, baseline }) => status === 'done' && hasPlan && !baseline)?.id ?? ''
  const settings = { maxTokens: 8, decoding: { kind: 'sampling' as const, temperature: 0 } }
  const prompts = ['A garden is', 'def grow(plant):\n  return plant', 'A tree is'].map((text) => ({ text, tags: [] }))
  const inspect = { kind: 'generation' as const, runs: [inspected], prompts, settings }
  const { id } = await workbench.call('runs.inspect', { inspect })
  const { inspected: found } = await eventually(
    () => workbench.call('runs.get', { id }),
    ({ status }) => status === 'done',
    120_000,
  )
  await go(page, `#/judge/answers/${id}`)
  const rows = page.getByRole('region', { name: 'Answers by prompt and model' }).getByRole('row')
  await expect.poll(() => rows.count()).toBe(1 + prompts.length)
  const { answers } = await workbench.call('transcripts.get', { id: found?.kind === 'generation' ? found.transcript : '' })
  for (const [at, { text }] of prompts.entries()) {
    const row = rows.nth(at + 1)
    const own = answers.filter(({ prompt }) => prompt === at).sort((a, b) => a.column - b.column)
    const wordsOf = (answer: string) => answer.replaceAll(/\s+/g, '')
    const [head, ...cells] = (await row.locator('th, td').allTextContents()).map(wordsOf)
    expect([head, ...cells]).toEqual([text, ...own.map((answer) => answer.text)].map(wordsOf))
    expect(cells.length).toBeGreaterThan(1)
    const font = await row.evaluate((element) => getComputedStyle(element).fontFamily)
    expect(/mono/i.test(font), `${text} in ${font}`).toBe(text.startsWith('def'))
  }
  for (const [button, name] of [
    ['Save answers as CSV', 'transcripts.csv'],
    ['Save all as JSON', 'transcripts.json'],
  ] as const) {
    const download = page.waitForEvent('download')
    await page.getByRole('button', { name: button }).click()
    expect((await download).suggestedFilename()).toBe(name)
  }
})

test('an address with a tab that a run lacks shows its first tab, and one of no run says so as the heading of the page', async () => {
  await go(page, `#/run/${await makeDraft('without recovery')}?tab=recovery`)
  await page.getByRole('tab', { selected: true, name: 'Decisions' }).waitFor()
  await go(page, '#/run/run-unknown')
  await page.getByRole('heading', { level: 1, name: 'This run could not be loaded' }).waitFor()
  expect(await page.getByRole('alert').textContent()).toContain('run-unknown')
})

test('a dialog that asks for a text has the focus in its field, and a palette that finds nothing names no choice', async () => {
  await go(page, '#/playground')
  await settle(page)
  await page.getByRole('button', { name: 'Prompt sets' }).click()
  await page.getByRole('menuitem', { name: /^Save or remove/ }).click()
  await expect
    .poll(() => page.getByRole('textbox', { name: 'Name of the set' }).evaluate((field) => field === document.activeElement))
    .toBe(true)
  await page.keyboard.press('Escape')
  await page.keyboard.press('Control+k')
  await page.keyboard.type('no such thing')
  await page.getByRole('option', { name: 'No results' }).waitFor()
  expect(await findAccessibilityFaults(page, [], 'dialog[open]')).toEqual([])
  await page.keyboard.press('Escape')
})
