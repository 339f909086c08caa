import { type ChildProcess, spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { env, execPath } from 'node:process'
import type { Browser, Locator, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openHistory } from '#db/history.ts'
import { fillHistory } from '../fixtures/fill-history.ts'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { addFilter, go, intercept, openScreen, type Screen } from './screens.ts'
import { keepTiming } from './timed-machine.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

const sample = join(import.meta.dirname, '../../resources/sample-model')
const usualCache = env.HF_HUB_CACHE
/** Runs in the history before anything is done: one an hour from the beginning of 1970, in 100 experiments, at 0 to 70 %. */
const kept = 60
let browser: Browser
let workbench: Workbench
let screen: Screen
let page: Page
/** The sample model's id. */
let model: string

beforeAll(async () => {
  const cache = await mkdtemp(join(tmpdir(), 'espalier-cache-'))
  await cp(sample, join(cache, 'models--someone--tiny', 'snapshots', 'a'.repeat(40)), { recursive: true })
  env.HF_HUB_CACHE = cache
  const prepare = async (folder: string) => {
    await mkdir(folder, { recursive: true })
    const history = openHistory(folder)
    fillHistory(history, kept, 1)
    keepTiming(history)
    history.close()
  }
  ;[browser, workbench] = await Promise.all([launchBrowser(), startWorkbench({ prepare })])
  screen = await openScreen(browser, workbench)
  page = screen.page
  model = (await workbench.call('models.list', {})).find(({ description }) => description.shape.blocks === 12)?.id ?? ''
})

afterAll(async () => {
  if (usualCache === undefined) delete env.HF_HUB_CACHE
  else env.HF_HUB_CACHE = usualCache
  await browser?.close()
  await workbench?.close()
})

const data = (windows: number, file = 'test.txt') => ({ source: join(sample, file), sequenceLength: 128, windows })
const perplexity = (windows: number) => ({ kind: 'perplexity' as const, name: 'text', data: data(windows) })

async function startRun(changes: object, name: string): Promise<string> {
  const request = {
    method: 'dense',
    amount: { sparsity: 0 },
    options: {},
    seed: 0,
    backend: 'auto' as const,
    measures: [perplexity(2)],
    ...changes,
  }
  return (await workbench.call('runs.create', { model, name, start: 'queue', request })).id
}

const whenDone = (id: string) =>
  eventually(
    () => workbench.call('runs.get', { id }),
    ({ status }) => status === 'done',
    90_000,
  )

const found = (count: number) =>
  eventually(
    () => page.locator('.page-header').textContent(),
    (text) => text?.includes(`${count} runs found`) ?? false,
    10_000,
  )

test.each([
  { column: 'Sparsity', comparison: 'between', value: '20 to 30', shown: 'Sparsity between 20 % to 30 %', count: 16 },
  { column: 'Method', comparison: 'none of', value: '2SSP; ShortGPT', shown: 'Method is not 2SSP or ShortGPT', count: 40 },
  { column: 'Experiment', comparison: 'contains', value: 'experiment 5', shown: 'Experiment contains experiment 5', count: 11 },
  { column: 'perplexity (data 0)', comparison: 'at most', value: '20', shown: 'perplexity (data 0) ≤ 20', count: 7 },
])('a filter of $column takes what the table shows: $value', async ({ column, comparison, value, shown, count }) => {
  await go(page, '#/runs')
  await addFilter(page, column, comparison, value)
  await page.getByText(shown).waitFor()
  await found(count)
  await page.getByRole('button', { name: 'Clear', exact: true }).click()
})

test('a filter of dates takes a day as it is written, and its last moment counts', async () => {
  await go(page, '#/runs')
  const day = new Date(0)
  const midnight = new Date(day.getFullYear(), day.getMonth(), day.getDate() + 1).getTime()
  const written = `${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, '0')}-${String(day.getDate()).padStart(2, '0')}`
  await addFilter(page, 'Created', 'at most', written)
  await found(Math.min(kept, Math.ceil(midnight / 3_600_000)))
  await page.getByRole('button', { name: 'Clear', exact: true }).click()
})

test('Ctrl+K finds the oldest run of a long history, which is searched on the server', async () => {
  await go(page, '#/models')
  await page.keyboard.press('Control+k')
  await page.getByRole('combobox', { name: /Screen, model/ }).fill('run 0')
  await page.getByRole('option', { name: /^Run run 0 sample/ }).click()
  const heading = page.getByRole('heading', { level: 1, name: 'run 0', exact: true })
  await heading.waitFor()
  await expect.poll(() => heading.isVisible()).toBe(true)
})

test('runs that a box chose are archived by the key that the bar names, and brought back', async () => {
  await go(page, '#/runs')
  const box = page.getByRole('table', { name: 'Runs' }).locator('tbody').getByRole('checkbox')
  await box.nth(0).click()
  await box.nth(1).click()
  await page.getByText('2 runs chosen').waitFor()
  await page.keyboard.press('e')
  const total = async () => (await workbench.call('runs.query', { limit: 1 })).total
  await eventually(total, (count) => count === kept - 2, 10_000)
  await page.getByRole('button', { name: 'Undo' }).click()
  await eventually(total, (count) => count === kept, 10_000)
})

test('heads of the history are whole at 1440 pixels: none is cut, none breaks within a word, and the last column is in sight; so are names', async () => {
  await go(page, '#/runs')
  await page.locator('tr[data-row="0"]').waitFor()
  const faults = await page.evaluate(() =>
    [...document.querySelectorAll<HTMLElement>('th .title')].flatMap((title) => {
      const text = title.firstChild as Text
      const words = [...(text.data ?? '').matchAll(/[\p{L}\d]+/gu)]
      const broken = words.some(({ index, 0: word }) => {
        const range = document.createRange()
        range.setStart(text, index)
        range.setEnd(text, index + word.length)
        return range.getClientRects().length > 1
      })
      return broken || title.scrollWidth > title.clientWidth + 1 || title.getBoundingClientRect().right > innerWidth ? [text.data] : []
    }),
  )
  expect(faults).toEqual([])
  const names = page.locator('tr[data-row] .two-lines')
  await expect.poll(() => names.allTextContents()).toEqual(expect.arrayContaining(['BlockPruner, whole blocks', 'SmolLM2-135M-Instruct']))
  expect(await cutNames(names)).toEqual([])
})

const cutNames = (names: Locator) =>
  names.evaluateAll((all) => all.filter((one) => one.scrollHeight > one.clientHeight + 1).map((one) => one.textContent))

test('names over the columns of a comparison are whole, however many there are', async () => {
  const { rows } = await workbench.call('runs.query', { limit: 8 })
  for (const [index, { id }] of rows.entries())
    await workbench.call('runs.update', { ids: [id], name: `2SSP 25 %, repaired block by block ${index}` })
  await go(page, `#/compare?runs=${rows.map(({ id }) => id).join(',')}&transposed=yes`)
  const names = page.getByRole('region', { name: 'Comparison table' }).locator('thead .two-lines')
  await names.last().waitFor()
  await expect.poll(() => names.count()).toBe(8)
  expect(await cutNames(names)).toEqual([])
})

test('models that other programs keep are offered, and one is added by choosing it', async () => {
  await go(page, '#/models')
  await page.getByRole('button', { name: 'Add a model' }).first().click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('Other programs').click()
  await dialog.getByRole('button', { name: /Hugging Face cache\s*someone\/tiny/ }).click()
  await dialog.getByText(/Llama.*parameters,\s+12 blocks/).waitFor()
  await dialog.getByRole('button', { name: 'Add', exact: true }).click()
  await dialog.waitFor({ state: 'hidden' })
  expect(await workbench.call('models.list', {})).toHaveLength(4)
})

interface ShownTime {
  at: number
  seconds: number
}

/** Seconds that a screen says are left, in the middle of a range; undefined where it says none. */
function secondsLeft(text: string): number | undefined {
  const time = String.raw`(?:[\d.]+ (?:h|min|s|ms) ?)+`
  const [, from, to = from] = new RegExp(`(${time})(?:to (${time}))?left`).exec(text) ?? []
  if (!from || !to) return undefined
  const units: Record<string, number> = { h: 3600, min: 60, s: 1, ms: 0.001 }
  const seconds = (words: string) =>
    [...words.matchAll(/([\d.]+) (h|min|s|ms)/g)].reduce((sum, [, count, unit]) => sum + Number(count) * (units[unit ?? ''] ?? 0), 0)
  return (seconds(from) + seconds(to)) / 2
}

/** What a part of a screen says is left from now on: each look adds one. */
async function look(part: Locator, times: ShownTime[]): Promise<void> {
  const seconds = secondsLeft((await part.textContent({ timeout: 500 }).catch(() => '')) ?? '')
  if (seconds !== undefined) times.push({ at: Date.now(), seconds })
}

/** Measures that take some seconds on any processor: a whole text, cut into windows of several lengths. */
const lengthy = [64, 80, 96, 112, 128].map((sequenceLength) => ({
  ...perplexity(0),
  name: `windows of ${sequenceLength}`,
  data: { ...data(400, 'calibration.txt'), sequenceLength },
}))

/** Half of the times shown, except in the last second, were within a factor of 2.5 of what it then took. */
function expectNear(times: readonly ShownTime[], endedAt: number): void {
  const factors = times
    .map(({ at, seconds }) => ({ seconds, left: (endedAt - at) / 1000 }))
    .filter(({ left }) => left > 1)
    .map(({ seconds, left }) => seconds / left)
    .sort((a, b) => a - b)
  // A busy machine shows few times while the runs last.
  expect(factors.length, JSON.stringify(times)).toBeGreaterThan(0)
  const median = factors[Math.floor(factors.length / 2)] ?? 0
  expect(median, JSON.stringify(times)).toBeGreaterThan(0.4)
  expect(median, JSON.stringify(times)).toBeLessThan(2.5)
}

test('the time left on a run’s page is near what it then takes', async () => {
  // Long enough that the first calls of a process hardly count.
  await whenDone(await startRun({ measures: [perplexity(100)] }, 'known before'))
  const id = await startRun({ measures: lengthy }, 'a long one')
  await go(page, `#/run/${id}`)
  const times: ShownTime[] = []
  await eventually(
    async () => {
      await look(page.getByRole('region', { name: 'Progress', exact: true }), times)
      return (await workbench.call('runs.get', { id })).status
    },
    (status) => status === 'done',
    90_000,
  )
  expectNear(times, (await workbench.call('runs.get', { id })).endedAt ?? 0)
})

test('the time left of an experiment and that of the queue are near what all their runs then take', async () => {
  const { experiment } = await workbench.call('experiments.create', {
    name: 'Several, one after the other',
    start: 'queue',
    grid: {
      models: [model],
      methods: [{ method: 'shortgpt' }],
      amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }],
      calibration: data(4, 'calibration.txt'),
      measures: lengthy.slice(0, 3),
    },
  })
  await go(page, `#/experiments/${experiment.id}`)
  const history = await screen.context.newPage()
  await history.goto(workbench.printed)
  await go(history, '#/runs')
  const [ofExperiment, ofQueue]: [ShownTime[], ShownTime[]] = [[], []]
  const rows = () => workbench.call('runs.query', { experiment: experiment.id })
  await eventually(
    async () => {
      await look(page.locator('.page-header'), ofExperiment)
      await look(history.getByRole('region', { name: 'Queue' }).locator('header'), ofQueue)
      return (await rows()).rows.map(({ status }) => status)
    },
    (statuses) => statuses.length === 3 && statuses.every((status) => status === 'done'),
    90_000,
  )
  await history.close()
  const ended = Math.max(...(await rows()).rows.map(({ endedAt }) => endedAt ?? 0))
  expectNear(ofExperiment, ended)
  expectNear(ofQueue, ended)
})

/** Ends by itself where the test is killed. */
const spin = 'const end = Date.now() + 60_000; while (Date.now() < end);'

test('times taken while other programs keep the machine busy say that they are noisy, beside the value and in words', async () => {
  const busy: ChildProcess[] = Array.from({ length: 2 }, () => spawn(execPath, ['-e', spin], { stdio: 'ignore' }))
  const id = await startRun({ measures: [{ kind: 'inference', sequenceLength: 64, repeats: 2 }] }, 'timed in a crowd')
  await whenDone(id).finally(() => {
    for (const child of busy) child.kill('SIGKILL')
  })
  await go(page, `#/run/${id}`)
  const measures = page.getByRole('region', { name: 'Measures' })
  await measures.getByText(/Times are noisy: other programs used \d+ % of the processor/).waitFor()
  await expect.poll(() => measures.getByText('noisy', { exact: true }).count()).toBeGreaterThan(2)
})

test('the page of the engine says that the numbers of a self-test are wrong, and asks for devices again only when asked to', async () => {
  await workbench.call('engine.get', {})
  const probes: unknown[] = []
  const stop = await intercept(page, 'engine.get', async (route) => {
    probes.push(route.request().postDataJSON().probe ?? false)
    const response = await route.fetch()
    const engine = await response.json()
    const test = { backend: 'tensorflow-cpu', device: 'cpu', matches: false, gigaflopsPerSecond: 9, rates: [], seconds: 1, worst: 'a norm' }
    // Devices that were listed long ago are listed again, however slow the tests before this one were.
    await route.fulfill({ response, json: { ...engine, probedAt: Date.now(), selfTest: { ...test, largestError: 0.3, at: Date.now() } } })
  })
  await go(page, '#/settings')
  await page.getByText('results are WRONG').waitFor()
  const facts = page.getByText(/largest relative error 0\.300, of a norm/)
  await eventually(() => facts.isVisible(), Boolean, 10_000)
  await page.getByRole('button', { name: 'Detect devices' }).click()
  await eventually(() => Promise.resolve(probes.includes(true)), Boolean, 10_000)
  expect(probes).toEqual([false, true])
  stop()
  const budget = page.getByRole('spinbutton', { name: /^Memory budget/ })
  await budget.fill('-5')
  await budget.blur()
  await page.getByText('Memory budget is -5; it must be a number of at least 0.1.').waitFor()
  expect((await workbench.call('settings.get', {})).memoryBytes).toBe(null)
})

test('a waiting run and a waiting analysis say on their pages what the queue waits for', async () => {
  const pruned = await startRun(
    { method: 'shortgpt', amount: { sparsity: 0.25 }, calibration: data(3, 'calibration.txt') },
    'to be analysed',
  )
  await whenDone(pruned)
  await workbench.call('queue.pause', {})
  const waiting = await startRun({ seed: 1 }, 'waits for room')
  const inspect = { kind: 'divergence' as const, runs: [pruned], data: data(2) }
  const analysis = (await workbench.call('runs.inspect', { inspect, start: 'queue' })).id
  const message = 'The disk is full. Free some space.'
  const stopQueue = await intercept(page, 'queue.get', async (route) => {
    const response = await route.fetch()
    const obstacle = { kind: 'full', message, since: Date.now(), neededBytes: 2, freeBytes: 1 }
    await route.fulfill({ response, json: { ...(await response.json()), paused: false, obstacle } })
  })
  // Analyses are done at once where there is room.
  await whenDone(analysis)
  const stopRuns = await intercept(page, 'runs.get', async (route) => {
    const response = await route.fetch()
    await route.fulfill({ response, json: { ...(await response.json()), status: 'queued', inspected: null } })
  })
  await page.reload()
  for (const hash of [`#/run/${waiting}`, `#/broke/${analysis}`]) {
    await go(page, hash)
    await page.getByRole('main').getByText(message).waitFor()
  }
  stopQueue()
  stopRuns()
  await workbench.call('runs.cancel', { ids: [waiting] })
  await workbench.call('queue.resume', {})
  await page.reload()
  await go(page, `#/run/${pruned}`)
  await page.getByRole('heading', { level: 1, name: 'to be analysed' }).waitFor()
  expect(await page.getByText(message).count()).toBe(0)
})

test('an experiment of two models is repeated with changes and exported as one file without paths of this machine, after a reload', async () => {
  const cached = (await workbench.call('models.list', {})).find(({ path }) => path.includes('someone--tiny'))
  const { experiment } = await workbench.call('experiments.create', {
    name: 'To be repeated',
    start: 'draft',
    grid: {
      models: [model, cached?.id ?? ''],
      methods: [{ method: 'shortgpt' }],
      amounts: [{ sparsity: 0.375 }],
      calibration: data(3, 'calibration.txt'),
    },
  })
  await go(page, `#/experiments/${experiment.id}`)
  await page.reload()
  await page.getByRole('button', { name: 'More for this experiment' }).click()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: 'Export experiment' }).click()])
  const file = await readFile(await download.path(), 'utf8')
  expect(JSON.parse(file)).toMatchObject({ format: 'espalier experiment' })
  for (const path of [sample, dirname(cached?.path ?? '')]) expect(file).not.toContain(path)
  await page.getByRole('button', { name: 'Repeat with changes' }).click()
  await page.getByRole('button', { name: 'Remove 37.5 %' }).waitFor()
  await eventually(
    () => page.getByRole('spinbutton', { name: 'Windows' }).first().inputValue(),
    (windows) => windows === '3',
    10_000,
  )
  expect(screen.faults).toEqual([])
})
