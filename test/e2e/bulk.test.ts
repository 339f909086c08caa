import { mkdir } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openHistory } from '#db/history.ts'
import { fillHistory } from '../fixtures/fill-history.ts'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { addFilter, go, openScreen, type Screen, settle } from './screens.ts'
import { keepTiming } from './timed-machine.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

/** A year's work; the screen loads 100 at once. */
const kept = 10_000
const waiting = 230
let browser: Browser
let workbench: Workbench
let screen: Screen
let page: Page

/** A long history; runs of it wait in a queue that is paused. */
async function prepare(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const history = openHistory(folder)
  fillHistory(history, kept, 1)
  const numbers = Array.from({ length: waiting }, (_, at) => at + 1)
  history.queue.enqueue(numbers)
  history.settings.set('queue paused', true)
  keepTiming(history)
  history.close()
}

beforeAll(async () => {
  ;[browser, workbench] = await Promise.all([launchBrowser(), startWorkbench({ prepare })])
  screen = await openScreen(browser, workbench)
  page = screen.page
})

afterAll(async () => {
  await browser?.close()
  await workbench?.close()
})

const countOf = async (status: string) => (await workbench.call('runs.query', { limit: 1 })).counts[status as 'queued'] ?? 0
const orderOf = async () => (await workbench.call('queue.get', {})).runs.map(({ id }) => id)
const box = (at: number) => page.getByRole('table', { name: 'Runs' }).locator('tbody').getByRole('checkbox').nth(at)
const chooseAll = () => page.getByRole('checkbox', { name: /^Choose all/ }).click()
const undo = () => page.getByRole('button', { name: 'Undo' }).last().click()

test('a long queue is one line with its rows on demand, and says that it is paused', async () => {
  await go(page, '#/runs')
  const queue = page.getByRole('region', { name: 'Queue' })
  await queue.getByText('230 runs waiting').waitFor()
  await queue.getByRole('heading', { name: 'Queue, paused' }).waitFor()
  await expect.poll(() => queue.locator('.chip').allTextContents()).toEqual([expect.stringMatching(/: paused$/)])
  const rows = queue.getByRole('listitem')
  await expect.poll(() => rows.count()).toBe(0)
  await page.reload()
  await queue.getByText('230 runs waiting').waitFor()
  await queue.getByRole('button', { name: 'Show waiting runs' }).click()
  await queue.getByRole('link', { name: '130 more waiting runs' }).waitFor()
  await expect.poll(() => rows.count()).toBe(101)
  const [first, second, ...rest] = await orderOf()
  await rows
    .first()
    .getByRole('button', { name: /^Move / })
    .press('Alt+ArrowDown')
  await eventually(orderOf, (order) => order.join() === [second, first, ...rest].join(), 10_000)
  await page.reload()
  await queue.getByRole('button', { name: 'Show waiting runs' }).click()
  const name = (await workbench.call('runs.get', { id: second ?? '' })).name
  await rows.first().getByRole('link', { name, exact: true }).waitFor()
  await queue.getByRole('button', { name: 'Hide waiting runs' }).click()
  await expect.poll(() => rows.count()).toBe(0)
})

test('cancelling 10,000 chosen runs says how many it is for, acts on rows that were never loaded, and is undone whole', async () => {
  const before = await orderOf()
  await go(page, '#/runs')
  await page.locator('tr[data-row="0"]').waitFor()
  await chooseAll()
  await page.getByText('10,000 runs chosen').waitFor()
  await page.getByRole('button', { name: 'More for the chosen runs' }).click()
  await page.getByRole('menuitem', { name: 'Cancel: 230 of 10,000' }).click()
  const dialog = page.getByRole('dialog', { name: 'Cancel 230 of 10,000 runs?' })
  await dialog.getByText('The other 9,770 are unchanged.').waitFor()
  await dialog.getByRole('button', { name: 'Cancel 230 runs' }).click()
  await page.getByText('230 of 10,000 runs cancelled').last().waitFor()
  expect(await countOf('cancelled')).toBe(waiting)
  await undo()
  await page.getByText('Undone for 230 runs').last().waitFor()
  expect(await orderOf()).toEqual(before)
  await page.getByRole('button', { name: /^Clear Esc/ }).click()
})

test('archiving all leaves none in the queue, and its undo returns them to their places', async () => {
  const before = await orderOf()
  await go(page, '#/runs')
  await chooseAll()
  await page.getByText('10,000 runs chosen').waitFor()
  await box(0).click()
  await page.getByText('9,999 runs chosen').waitFor()
  await page.getByRole('button', { name: /^Archive: 9,999/ }).click()
  await eventually(
    async () => (await workbench.call('runs.query', { limit: 1 })).total,
    (total) => total === 1,
    10_000,
  )
  expect((await orderOf()).length).toBeLessThanOrEqual(1)
  await undo()
  await eventually(orderOf, (order) => order.join() === before.join(), 10_000)
})

test('the ring of a focused row is whole over the column that stays, and no line of the rows jumps there, after a reload too', async () => {
  await go(page, '#/runs')
  await page.reload()
  await settle(page)
  const row = page.locator('tr[data-row="2"]')
  await row.press('ArrowDown')
  const focused = page.locator('tr[data-row="3"]:focus-visible')
  await focused.waitFor()
  const rings = await focused.evaluate((element) => {
    const { borderBottomColor, boxShadow } = getComputedStyle(element.querySelector('th') as Element)
    return [getComputedStyle(element).outlineColor, borderBottomColor, boxShadow]
  })
  expect(rings[1]).toBe(rings[0])
  expect(rings[2]).toContain(rings[0])
  const lines = await row.locator('th, td').evaluateAll((cells) =>
    cells.map((cell) => {
      const { borderBottomColor, borderBottomWidth, boxShadow } = getComputedStyle(cell)
      return [cell.getBoundingClientRect().bottom, borderBottomColor, borderBottomWidth, boxShadow].join()
    }),
  )
  expect([...new Set(lines)]).toHaveLength(1)
  expect(await page.getByRole('table', { name: 'Runs' }).evaluate((table) => getComputedStyle(table).borderCollapse)).toBe('separate')
})

test('a search hides chosen runs from an action until the user includes them', async () => {
  const { rows } = await workbench.call('runs.query', { sort: [{ field: 'name', direction: 'ascending' }], limit: 2 })
  await go(page, '#/runs?sort=name')
  // Until then the rows are those of the order before.
  for (const [at, { name }] of rows.entries()) await page.locator(`tr[data-row="${at}"] a`, { hasText: name }).waitFor()
  await box(0).click()
  await box(1).click()
  await page.getByText('2 runs chosen').waitFor()
  const first = (await page.locator('tr[data-row="0"] a').textContent()) ?? ''
  await page.getByRole('searchbox', { name: 'Search runs' }).fill(first)
  await page.getByText('1 run chosen').waitFor()
  await page.getByText('and 1 that the filter hides').waitFor()
  await page.getByRole('button', { name: /^Archive/ }).click()
  const total = async () => (await workbench.call('runs.query', { limit: 1 })).total
  await eventually(total, (count) => count === kept - 1, 10_000)
  await undo()
  await eventually(total, (count) => count === kept, 10_000)
  await page.getByRole('searchbox', { name: 'Search runs' }).fill('')
})

test('Shift chooses a range of which most rows were never loaded', async () => {
  await go(page, '#/runs?sort=name')
  // The rows of the search before are replaced, and the list is at its beginning again.
  await page.getByRole('searchbox', { name: 'Search runs' }).fill('')
  await settle(page)
  await box(0).click()
  await page.locator('tr[data-row="0"]').focus()
  await page.keyboard.press('End')
  await page.locator(`tr[data-row="${kept - 1}"] input`).click({ modifiers: ['Shift'] })
  await page.getByText('10,000 runs chosen').waitFor()
  await expect.poll(() => page.getByText('10,000 runs chosen').isVisible()).toBe(true)
  await page.keyboard.press('Escape')
})

test('10,000 runs are filtered by cluster and start in a view that is kept, and grouped by three levels, over a reload', async () => {
  const found = (count: number) => page.locator('.page-header', { hasText: `${count} runs found` }).waitFor()
  await go(page, '#/runs')
  await addFilter(page, 'Cluster', 'any of', 'far cluster')
  await found(5)
  await addFilter(page, 'Started', 'at most', '1970-09-15')
  await found(3)
  await page.getByRole('button', { name: 'Views' }).click()
  await page.getByRole('textbox', { name: 'Name of this view' }).fill('Far and early')
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await page.getByRole('button', { name: 'Clear', exact: true }).click()
  await page.getByRole('button', { name: /^Group by/ }).click()
  for (const level of ['Method', 'Model', 'Sparsity']) await page.getByRole('menuitemcheckbox', { name: level, exact: true }).click()
  await page.keyboard.press('Escape')
  const group = page.getByRole('row', { name: /^2SSP SmolLM2-135M-Instruct 20 % 416\b/ })
  await group.waitFor()
  await page.reload()
  await group.getByRole('button', { name: '20 %' }).click()
  await found(416)
  await page.getByRole('button', { name: 'Views' }).click()
  await page.getByRole('button', { name: 'Far and early', exact: true }).click()
  await found(3)
  await expect.poll(() => page.locator('tr[data-row]').count()).toBe(3)
  await page.getByRole('button', { name: 'Clear', exact: true }).click()
})

test('at most N windows holds for a text that is ticked after the number was typed', async () => {
  await go(page, '#/new')
  const texts = page.getByRole('group', { name: 'Perplexity on' })
  // The form can be used before its first draft is there, which would then fill in the texts.
  await texts.getByRole('checkbox', { checked: true }).first().waitFor()
  for (const one of await texts.getByRole('checkbox', { checked: true }).all()) await one.uncheck()
  const boxes = texts.getByRole('checkbox')
  await boxes.nth(0).check()
  await texts.getByRole('spinbutton', { name: /at most/i }).fill('3')
  await texts.getByRole('spinbutton', { name: /at most/i }).blur()
  const asked: { data?: { windows?: number } }[][] = []
  page.on('request', (request) => {
    if (request.url().endsWith('/api/experiments.preview')) asked.push(request.postDataJSON().grid.measures)
  })
  await boxes.nth(1).check()
  await eventually(
    () => asked.at(-1)?.flatMap(({ data }) => (data ? [data.windows] : [])) ?? [],
    (windows) => windows.length === 2 && windows.every((count) => count === 3),
    30_000,
  )
  expect(screen.faults).toEqual([])
})

test('an archived experiment says so, and restoring it removes the notice with the older undo', async () => {
  const [experiment] = await workbench.call('experiments.list', {})
  const notices = page.getByRole('region', { name: 'Notices' })
  await go(page, `#/experiments/${experiment?.id}`)
  await page.getByRole('button', { name: 'More for this experiment' }).click()
  await page.getByRole('menuitem', { name: 'Archive' }).click()
  await notices.getByText(/archived/).waitFor()
  await go(page, `#/experiments/${experiment?.id}`)
  await page.getByText('Archived', { exact: true }).waitFor()
  await page.getByRole('button', { name: 'Restore' }).click()
  await notices.getByText(/restored/).waitFor()
  // Where panels fill the window it covers nothing, because it has a row of its own.
  for (const width of [1024, 800]) {
    await page.setViewportSize({ width, height: 900 })
    // Both at one moment: an older notice may just go.
    const { bottom, top } = await notices.evaluate((region) => ({
      bottom: document.querySelector('main')?.getBoundingClientRect().bottom ?? Number.NaN,
      top: region.getBoundingClientRect().top,
    }))
    expect(bottom, `${width} px`).toBeLessThanOrEqual(top)
  }
  await page.setViewportSize({ width: 1440, height: 900 })
  await expect.poll(() => notices.getByText(/archived/).count()).toBe(0)
  await page.getByText('Archived', { exact: true }).waitFor({ state: 'detached' })
})

test('a tag needs no Enter, notes are shown again after a reload, and what was cancelled is gone', async () => {
  await go(page, '#/runs')
  const dialog = page.getByRole('dialog', { name: 'Tags and notes' })
  const open = async (row: number) => {
    await box(row).click()
    await page.getByRole('button', { name: 'More for the chosen runs' }).click()
    await page.getByRole('menuitem', { name: 'Tags and notes …' }).click()
  }
  const notes = dialog.getByRole('textbox', { name: 'Notes' })
  await open(0)
  await dialog.getByRole('textbox', { name: /^Add a tag/ }).fill('without Enter')
  await notes.fill('Kept.')
  await dialog.getByRole('button', { name: 'Save' }).click()
  const find = () => workbench.call('runs.query', { search: 'Kept.' })
  const { rows } = await eventually(find, ({ total }) => total === 1, 10_000)
  expect(rows[0]?.tags).toContain('without Enter')
  await page.reload()
  await open(0)
  await expect.poll(() => notes.inputValue()).toBe('Kept.')
  await notes.fill('Cancelled.')
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await box(0).click()
  await open(1)
  await expect.poll(() => notes.inputValue()).not.toBe('Cancelled.')
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await page.getByRole('button', { name: /^Clear Esc/ }).click()
})

test('any of 10,000 runs is found where runs are chosen, and none of another model is offered beside it', async () => {
  const find = async (name: string) => (await workbench.call('runs.query', { search: name })).rows.find((run) => run.name === name)
  const [one, other] = [await find('run 301'), await find('run 303')]
  expect(one?.model.id).not.toBe(other?.model.id)
  const search = page.getByRole('searchbox', { name: /^Search/ })
  const box = (name: string) => page.getByRole('checkbox', { name: new RegExp(`^${name} `) })
  for (const hash of ['#/broke', '#/judge']) {
    await go(page, hash)
    await page.reload()
    await search.fill('run 301')
    await box('run 301').check()
    await search.fill('run 303')
    await settle(page)
    await expect.poll(() => box('run 301').isChecked(), { message: hash }).toBe(true)
    await expect.poll(() => box('run 303').count(), { message: hash }).toBe(0)
  }
  for (const [hash, open] of [
    [`#/playground?model=${one?.model.id}`, 'Add pruned models'],
    ['#/compare', 'Choose runs'],
  ] as const) {
    await go(page, hash)
    await page.reload()
    await page.getByRole('button', { name: open }).first().click()
    await search.fill('run 301')
    await box('run 301').check()
    await page.getByRole('dialog').getByRole('button', { name: 'Add', exact: true }).click()
    await page.getByRole('button', { name: 'Remove run 301', exact: true }).waitFor()
  }
})

test('after a lost connection every list is whole again in every tab, nothing false stands behind it, and no stranger is signed in', async () => {
  const { rows } = await workbench.call('runs.query', { limit: 2, offset: 1 })
  expect(new Set(rows.flatMap(({ model, experiment }) => [model.id, experiment?.id])).size, 'two models, two experiments').toBe(4)
  const { total } = await workbench.call('runs.query', { search: 'run 77', limit: 1 })
  await go(page, '#/runs')
  const heads = () => page.getByRole('columnheader').allTextContents()
  const whole = await eventually(heads, (found) => found.some((head) => /Perplexity/.test(head)), 15_000)
  const second = await screen.context.newPage()
  await second.goto(`${workbench.address}#/experiments`)
  await second.getByText('100 experiments').waitFor()

  await workbench.kill()
  for (const tab of [page, second]) await tab.getByText('Connection lost.', { exact: true }).waitFor()
  await page.getByRole('searchbox', { name: 'Search runs' }).fill('run 77')
  await page.locator('[aria-busy="true"]').waitFor({ state: 'detached' })
  await go(second, '#/broke')
  await second.getByRole('heading', { level: 1, name: 'What broke' }).waitFor()
  await go(second, `#/compare?runs=${rows.map(({ id }) => id).join(',')}`)
  await second.getByRole('heading', { level: 1, name: 'Compare' }).waitFor()
  for (const tab of [page, second])
    expect(
      await tab.getByText(/No (finished )?runs?|Nothing analysed|Nothing found|Connection lost\. Reconnecting/).allTextContents(),
    ).toEqual([])

  await workbench.restart()
  for (const tab of [page, second]) await tab.getByText('Connection lost.', { exact: true }).waitFor({ state: 'detached' })
  // A search shows the experiments too, because it finds runs by their names.
  const searched = whole.toSpliced(whole.findIndex((head) => /^Reached/.test(head)) + 1, 0, 'Experiment ')
  await eventually(heads, (found) => isDeepStrictEqual(found, searched), 15_000)
  await page.locator('.page-header', { hasText: `${total} runs found` }).waitFor()
  await page.locator('tr[data-row="0"]').press('End')
  await page.locator(`tr[data-row="${total - 1}"] a`).waitFor()
  for (const again of [false, true]) {
    if (again) await second.reload()
    const compared = second.getByRole('region', { name: 'Comparison table' })
    for (const { name, model } of rows) await compared.getByText(`${name}, ${model.name}`, { exact: true }).first().waitFor()
  }
  await second.close()
  const stranger = await (await browser.newContext()).newPage()
  await stranger.goto(`${workbench.address}#/runs`)
  await stranger.getByText('This tab is not signed in.').waitFor()
  await expect.poll(() => stranger.getByRole('main').textContent()).not.toMatch(/Bearer|token|No runs|lost/)
  await stranger.context().close()
  expect(screen.faults).toEqual([])
})
