import { cp, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Browser, Page, Route } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Grid } from '#contract/experiments/experiments.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { processesOf } from '../jobs/kill-checks.ts'
import { findAccessibilityFaults, findSmallPrint } from './accessibility.ts'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { go, intercept, openScreen, type Screen, settle, watchShifts } from './screens.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

const sample = join(import.meta.dirname, '../../resources/sample-model')
let browser: Browser
let workbench: Workbench
let screen: Screen
let page: Page

beforeAll(async () => {
  ;[browser, workbench] = await Promise.all([launchBrowser(), startWorkbench()])
  screen = await openScreen(browser, workbench)
  page = screen.page
})

afterAll(async () => {
  await browser?.close()
  await workbench?.close()
})

async function runStatuses(): Promise<string[]> {
  const { rows } = await workbench.call('runs.query', {})
  return rows.map(({ status }) => status)
}

/** Runs the sample experiment on fewer windows and with fewer steps than it has, as the tests look at no number of it. */
async function shorten(route: Route): Promise<void> {
  const { grid, ...asked } = route.request().postDataJSON()
  const methods = grid.methods.map((one: Grid['methods'][number]) =>
    one.method === 'gates' ? { ...one, options: { ...one.options, steps: 4 } } : one,
  )
  const measures = grid.measures.map((one: MeasureRequest) =>
    one.kind === 'perplexity' ? { ...one, data: { ...one.data, windows: 16 } } : one,
  )
  await route.continue({ postData: { ...asked, grid: { ...grid, methods, measures, calibration: { ...grid.calibration, windows: 16 } } } })
}

async function saved(start: () => Promise<void>): Promise<Buffer> {
  const [download] = await Promise.all([page.waitForEvent('download'), start()])
  return readFile(await download.path())
}

/** Presses a column's button within milliseconds of its first tokens, in the page itself: a small model's whole answer takes a second. */
async function stopWhenItSpeaks(where: Page, label: string): Promise<void> {
  await where.evaluate(
    (name) =>
      new Promise<void>((resolve) => {
        const timer = setInterval(() => {
          const button = document.querySelector<HTMLButtonElement>(`[aria-label="${name}"]`)
          if (!button || document.querySelectorAll('[data-token]').length === 0) return
          clearInterval(timer)
          button.click()
          resolve()
        }, 5)
      }),
    label,
  )
}

/** Over each answer of the transcript that is shown: its length, and how much of it repeats itself. */
async function expectLengths(count: number): Promise<void> {
  const id = new URLSearchParams(page.url().split('?')[1]).get('transcript') ?? ''
  const { answers } = await workbench.call('transcripts.get', { id })
  const remarks = answers
    .sort((a, b) => a.prompt - b.prompt || a.column - b.column)
    .map(({ tokens }) => {
      const fours = tokens.slice(3).map((_, from) => tokens.slice(from, from + 4).map(({ id: token }) => token))
      const repeated = fours.filter((four, from) => fours.slice(0, from).some((earlier) => isDeepStrictEqual(earlier, four)))
      const share = Math.round((100 * repeated.length) / (fours.length || 1))
      return `${tokens.length} token${tokens.length === 1 ? '' : 's'}${share > 0 ? ` ${share} % repeated` : ''}`
    })
  expect(remarks.filter((text) => text.includes('repeated')).length).toBeGreaterThan(0)
  const heads = page.getByRole('group', { name: /^Answer of/ }).locator('xpath=../header')
  await heads.nth(count - 1).waitFor()
  const shown = (await heads.allTextContents()).map((text) => /^\d+ tokens?( \d+ % repeated)?/.exec(text.replace(/\s+/g, ' ').trim())?.[0])
  expect(shown).toEqual(remarks)
}

/** A second experiment, on a second model. Gives its pruned run. */
async function pruneOther(model: string): Promise<string> {
  const data = { source: join(sample, 'test.txt'), sequenceLength: 64, windows: 2 }
  const { experiment } = await workbench.call('experiments.create', {
    name: 'A single block',
    start: 'queue',
    grid: {
      models: [model],
      methods: [{ method: '2ssp' }],
      amounts: [{ sparsity: 0.25 }],
      calibration: data,
      measures: [{ kind: 'perplexity', name: 'text', data }],
    },
  })
  const { rows } = await eventually(
    () => workbench.call('runs.query', { experiment: experiment.id }),
    (found) => found.rows.length === 2 && found.rows.every(({ status }) => status === 'done'),
    60_000,
  )
  return rows.find(({ baseline }) => !baseline)?.id ?? ''
}

describe('first start', () => {
  test('offers the sample model and one button, and the queue shows what that started', async () => {
    await page.getByRole('heading', { name: 'Prune a first model' }).waitFor()
    await page
      .getByRole('status')
      .filter({ hasText: /takes (about|under|\d).* (m?s|min)\.$/ })
      // Timing the machine takes 7 s of the processor, and the program itself waits 300 s for it.
      .waitFor({ timeout: 360_000 })
    expect(await findAccessibilityFaults(page)).toEqual([])
    await intercept(page, 'experiments.create', shorten, 1)
    await page.getByRole('button', { name: 'Run sample experiment' }).click()
    await page.getByRole('heading', { name: 'First look at the sample' }).waitFor()
    await page.getByRole('region', { name: 'Runs of this experiment' }).waitFor()
    expect(await findAccessibilityFaults(page)).toEqual([])
    expect((await runStatuses()).length).toBeGreaterThan(3)
  })

  test('a grid that asks for too much says so beside the combination, with the range, and cannot be started', async () => {
    await go(page, '#/new')
    const sparsity = page.getByRole('textbox', { name: /Add a sparsity/ })
    await sparsity.fill('99.5')
    await sparsity.press('Enter')
    const preview = page.getByRole('complementary', { name: 'Preview' })
    await preview
      .getByText(/out of reach/)
      .first()
      .waitFor()
    await expect.poll(() => page.getByRole('button', { name: 'Add to the queue' }).isDisabled()).toBe(true)
    await page.getByRole('button', { name: 'Remove 99.5 %' }).click()
    await eventually(
      () => page.getByRole('button', { name: 'Add to the queue' }).isDisabled(),
      (disabled) => !disabled,
      10_000,
    )
    const size = page.getByRole('textbox', { name: 'Add a size or speed' })
    await page.getByText(/Of a GGUF file \([\d.]+ [kM]B to [\d.]+ MB\)/).waitFor()
    await size.fill('1kB')
    await size.press('Enter')
    await preview
      .getByText(/choose [\d.]+ [kM]B to [\d.]+ MB/)
      .first()
      .waitFor()
    await page.getByRole('button', { name: 'Remove 1 kB' }).click()
    await sparsity.fill('120')
    await page.getByText(/^Enter a percentage between 0 and 100/).waitFor()
    await sparsity.fill('')
  })

  test('the sample experiment finishes and its rows show perplexities', async () => {
    await go(page, '#/runs')
    await eventually(runStatuses, (statuses) => statuses.every((status) => status === 'done'), 420_000)
    const dense = page.getByRole('row', { name: /dense/ }).first()
    await dense.waitFor()
    await eventually(
      () => dense.textContent(),
      (text) => /\d\d\.\d\d/.test(text ?? ''),
      10_000,
    )
  })
})

describe('a run', () => {
  test('shows its map, steps through its decisions and their candidates', async () => {
    const { rows } = await workbench.call('runs.query', {
      conditions: [
        { field: 'method', is: 'equal', value: '2ssp' },
        { field: 'nominal', is: 'equal', value: 0.5 },
      ],
    })
    const run = rows[0]
    await go(page, `#/run/${run?.id}`)
    const map = page.getByRole('listbox', { name: /Model map/ })
    await map.waitFor()
    await page.getByText(/^Perplexity is [\d.]+ times as high as before pruning: expect broken answers/).waitFor()
    const removed = () => map.getByRole('option', { name: /attention removed/ }).count()
    const atTheEnd = await removed()
    expect(atTheEnd).toBeGreaterThan(0)
    await page
      .getByText(/Candidates of round/)
      .first()
      .waitFor()
    await page.getByRole('button', { name: 'Previous decision' }).click()
    expect(await removed()).toBe(atTheEnd - 1)
    await page.getByRole('slider', { name: 'Decision' }).press('Home')
    expect(await removed()).toBe(0)
    await page.getByRole('tab', { name: 'Neuron scores' }).click()
    await expect.poll(() => page.getByRole('listitem', { name: /neurons kept/ }).count()).toBe(run?.hasPlan ? 12 : 0)
  })

  test('is cancelled at once, resumed from the page, and ends done', async () => {
    const { rows } = await workbench.call('runs.query', { conditions: [{ field: 'method', is: 'equal', value: 'gates' }], limit: 1 })
    const clone = await workbench.call('runs.clone', { id: rows[0]?.id ?? '', changes: { seed: 7 }, start: 'draft' })
    await go(page, `#/run/${clone.id}`)
    // Stopped, they do not end the run before the button is pressed.
    const computing = processesOf(workbench.processId, defaultComputeCommand().at(-1) as string)
    for (const pid of computing) process.kill(pid, 'SIGSTOP')
    await workbench.call('runs.enqueue', { ids: [clone.id] })
    const status = page.locator('.page-header .status').first()
    await eventually(
      () => status.textContent(),
      (text) => text?.trim() === 'running',
      30_000,
    )
    await page.getByRole('button', { name: 'Cancel' }).click()
    await eventually(
      () => status.textContent(),
      (text) => text?.trim() === 'cancelled',
      10_000,
    )
    for (const pid of processesOf(workbench.processId, defaultComputeCommand().at(-1) as string)) process.kill(pid, 'SIGCONT')
    await page.getByRole('button', { name: 'Resume' }).click()
    await eventually(
      () => status.textContent(),
      (text) => text?.trim() === 'done',
      120_000,
    )
    await page
      .getByRole('region', { name: 'Measures' })
      .getByText(/perplexity/)
      .first()
      .waitFor()
  })
})

describe('history', () => {
  test('searches, keeps the search in the address, and exports what it found', async () => {
    await go(page, '#/runs')
    await page.getByRole('searchbox', { name: 'Search runs' }).fill('2ssp')
    await eventually(
      () => page.getByRole('row', { name: /2SSP/ }).count(),
      (count) => count === 2,
      10_000,
    )
    await eventually(
      () => page.getByRole('row').count(),
      (count) => count === 3,
      10_000,
    )
    expect(page.url()).toContain('search=2ssp')
    const csv = await saved(() => page.getByRole('button', { name: 'CSV' }).click())
    expect(csv.toString().trim().split('\n')).toHaveLength(3)
  })

  test('archives with a way back', async () => {
    await go(page, '#/runs')
    const before = (await runStatuses()).length
    await page.getByRole('row', { name: /Gates/ }).first().press('x')
    await page.getByRole('button', { name: /^Archive/ }).click()
    await eventually(
      async () => (await runStatuses()).length,
      (count) => count === before - 1,
      10_000,
    )
    await page.getByRole('button', { name: 'Undo' }).click()
    await eventually(
      async () => (await runStatuses()).length,
      (count) => count === before,
      10_000,
    )
  })
})

describe('compare', () => {
  test('stands against the dense baseline until another is pinned', async () => {
    const [experiment] = await workbench.call('experiments.list', {})
    await go(page, `#/compare?experiment=${experiment?.id}`)
    const table = page.getByRole('region', { name: 'Comparison table' })
    await table.getByText(/^Pinned: .*dense/).waitFor()
    await eventually(
      () => table.getByText(/^\+\d+.* %$|^×/).count(),
      (count) => count > 1,
      10_000,
    )
    await table.getByRole('button', { name: /Pin 2SSP 25.* as the baseline/ }).click()
    await table.getByText(/^Pinned: .*2SSP 25/).waitFor()
    await table.getByRole('button', { name: /Pin .*dense.* as the baseline/ }).click()
    await table.getByText(/^Pinned: .*dense/).waitFor()
  })

  test('exports the table as CSV and LaTeX', async () => {
    const choose = async (item: string) => {
      await page.getByRole('button', { name: 'Export the table' }).first().click()
      await page.getByRole('menuitem', { name: item }).click()
    }
    const csv = (await saved(() => choose('CSV'))).toString()
    expect(csv.split('\r\n')[0]).toContain('perplexity')
    expect(csv).toContain('2SSP')
    const latex = (await saved(() => choose('LaTeX'))).toString()
    expect(latex).toContain('\\begin{tabular}')
    expect(latex).toContain('\\textbf{')
  })
})

describe('playground', () => {
  test('streams four columns, stops one, shows what else a token could have been, and keeps the transcript', async () => {
    const { rows } = await workbench.call('runs.query', {
      conditions: [{ field: 'baseline', is: 'equal', value: false }],
      sort: [{ field: 'createdAt', direction: 'ascending' }],
      limit: 3,
    })
    // The button is pressed before the page knows its models and runs.
    const asked = Promise.withResolvers<void>()
    const late = async (route: Route) => {
      await asked.promise
      await route.continue()
    }
    await intercept(page, 'models.list', late, 1)
    await go(page, `#/playground?runs=${rows.map(({ id }) => id).join(',')}`)
    await page.getByRole('textbox', { name: 'Prompt' }).fill('What is a garden? ')
    await page.getByRole('slider', { name: 'New tokens' }).fill('512')
    await eventually(
      () => page.getByRole('button', { name: 'Generate' }).isDisabled(),
      (disabled) => !disabled,
      10_000,
    )
    // Short answers may end before a test that only looks now and then sees them.
    const stopped = stopWhenItSpeaks(page, 'Stop column 2')
    await page.getByRole('button', { name: 'Generate' }).click()
    asked.resolve()
    const answers = page.getByRole('group', { name: /^Answer of/ })
    await eventually(
      () => answers.count(),
      (count) => count === 4,
      60_000,
    )
    await stopped
    const shift = await watchShifts(page)
    await eventually(
      () => answers.nth(2).locator('[data-token]').count(),
      (count) => count > 12,
      60_000,
    )
    expect(await shift()).toEqual([])
    await expect.poll(() => answers.nth(1).locator('[data-token]').count()).toBeLessThan(512)
    await eventually(
      () => page.getByRole('button', { name: 'Stop column 2' }).count(),
      (count) => count === 0,
      15_000,
    )
    await answers.first().locator('[data-token="1"]').hover()
    const card = page.locator('.float')
    await card.waitFor()
    await expect.poll(() => card.locator('.choice').count()).toBeGreaterThan(2)
    await expect.poll(() => card.textContent()).toMatch(/\d %/)
    if (await page.getByRole('button', { name: 'Stop all' }).count())
      await page
        .getByRole('button', { name: 'Stop all' })
        .click({ timeout: 2000 })
        .catch(() => undefined)
    await page.getByRole('button', { name: 'Generate' }).waitFor()
    await page.getByRole('button', { name: 'Transcripts' }).click()
    await page.getByRole('searchbox', { name: 'Search transcripts' }).fill('garden')
    await page.getByRole('button', { name: /What is a garden.*model/ }).click()
    await eventually(
      () => page.url(),
      (url) => url.includes('transcript='),
      5000,
    )
    await expect.poll(() => answers.count()).toBe(4)
  })
})

test('a model with a chat template answers in it by default, and a reply becomes the next turn of every column; each answer says how long it is and how it repeats itself', async () => {
  const folder = join(await mkdtemp(join(tmpdir(), 'espalier-chat-')), 'chatting-model')
  await cp(sample, folder, { recursive: true })
  const change = async (file: string, changes: object) =>
    writeFile(join(folder, file), JSON.stringify({ ...JSON.parse(await readFile(join(folder, file), 'utf8')), ...changes }))
  await change('tokenizer_config.json', {
    chat_template: '{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}',
  })
  await change('config.json', { num_hidden_layers: 1 })
  const { id } = await workbench.call('models.add', { path: folder })
  const run = await pruneOther(id)
  await go(page, '#/models')
  await go(page, `#/playground?model=${id}&runs=${run}`)
  const chat = page.getByRole('checkbox', { name: 'Chat template' })
  await chat.waitFor()
  await eventually(
    () => chat.isChecked(),
    (checked) => checked,
    10_000,
  )
  await page.getByRole('textbox', { name: 'Prompt' }).fill('A garden')
  await page.getByRole('slider', { name: 'New tokens' }).fill('24')
  await page.getByRole('slider', { name: 'Temperature' }).fill('0')
  const ended = () =>
    eventually(
      async () => (await workbench.call('transcripts.query', {})).rows[0]?.status,
      (status) => status === 'done',
      60_000,
    )
  // As if all answers were there before the page had heard that they began.
  const late = async (route: Route) => {
    const response = await route.fetch()
    await ended()
    await route.fulfill({ response })
  }
  await intercept(page, 'playground.{start,reply}', late, 2)
  await page.getByRole('button', { name: 'Generate' }).click()
  await page.getByRole('textbox', { name: 'Reply' }).fill('A tree')
  await page.getByRole('button', { name: 'Reply' }).click()
  const answers = page.getByRole('group', { name: /^Answer of/ })
  await eventually(
    () => answers.nth(3).locator('[data-token]').count(),
    (count) => count > 0,
    60_000,
  )
  await settle(page)
  // As if the page had asked just before the end, and had heard of it before it had its answer.
  const early = async (route: Route) => {
    const response = await route.fetch()
    await route.fulfill({ response, body: (await response.text()).replace('"status":"done"', '"status":"running"') })
  }
  await intercept(page, 'transcripts.get', early, 1)
  await page.reload()
  await page.getByRole('textbox', { name: 'Reply' }).waitFor()
  await expectLengths(4)

  const { rows } = await workbench.call('runs.query', { conditions: [{ field: 'method', is: 'equal', value: 'gates' }], limit: 1 })
  await go(page, '#/models')
  await go(page, `#/playground?model=${rows[0]?.model.id}&runs=${rows[0]?.id}`)
  await page.getByRole('textbox', { name: 'Prompt' }).fill('A garden')
  await page.getByRole('slider', { name: 'New tokens' }).fill('192')
  await page.getByRole('slider', { name: 'Temperature' }).fill('0')
  await page.getByRole('button', { name: 'Generate', disabled: false }).click()
  await page.getByRole('region', { name: 'Answers', exact: true }).getByText('done', { exact: true }).waitFor()
  await page.reload()
  await expectLengths(2)
  await expect.poll(() => chat.count(), { message: 'for a model without a template' }).toBe(0)
})

describe('every screen', () => {
  test('has nothing that axe finds, in either theme, and no fault in its small print, after a reload too', async () => {
    const { rows } = await workbench.call('runs.query', { conditions: [{ field: 'method', is: 'equal', value: '2ssp' }] })
    const [other] = rows
    const run = rows.find(({ model: { id } }) => id !== other?.model.id)
    const experiments = await workbench.call('experiments.list', {})
    const [entry] = (await workbench.call('transcripts.query', {})).rows
    const hashes = [
      '#/models',
      `#/models/${run?.model.id}`,
      `#/models/${other?.model.id}`,
      '#/new',
      '#/experiments',
      ...experiments.map(({ id }) => `#/experiments/${id}`),
      '#/runs',
      '#/runs?group=method',
      `#/run/${other?.id}`,
      `#/run/${run?.id}`,
      `#/run/${run?.id}?tab=log`,
      `#/run/${run?.id}?tab=neurons`,
      `#/run/${run?.id}?tab=details`,
      `#/compare?runs=${rows.map(({ id }) => id).join(',')}`,
      `#/playground?transcript=${entry?.id}`,
      '#/broke',
      '#/judge',
      '#/settings',
    ]
    /** Screens with the same parts as one that axe looks at, and with fewer rows: their small print has counts of one. */
    const alike = [`#/models/${other?.model.id}`, `#/experiments/${experiments[0]?.id}`, `#/run/${other?.id}`]
    const found: string[] = []
    for (const hash of hashes) {
      await go(page, hash)
      await page.getByRole('heading', { level: 1 }).waitFor()
      // Around a tab of a run is what its first tab has around it.
      const part = /[?]tab=/.test(hash) ? '[role=tabpanel]' : 'html'
      if (!alike.includes(hash))
        found.push(...(await findAccessibilityFaults(page, ['light', 'dark'], part)).map((fault) => `${hash} ${fault}`))
      if (hash.endsWith('?tab=details')) {
        await page.reload()
        await page.getByRole('textbox', { name: 'Name', exact: true }).waitFor()
      }
      found.push(...(await findSmallPrint(page)).map((fault) => `${hash} ${fault}`))
      if (hash.endsWith(other?.model.id ?? '-'))
        await page
          .getByText(/1 block, 128 wide/)
          .first()
          .waitFor()
    }
    expect(found).toEqual([])
  })

  test('has nothing that axe finds in its dialogs, menus and cards, in either theme', async () => {
    const { rows } = await workbench.call('runs.query', { conditions: [{ field: 'method', is: 'equal', value: '2ssp' }] })
    const run = `#/run/${rows.at(-1)?.id}`
    const press = (name: string | RegExp) => () => page.getByRole('button', { name }).first().click()
    const found: string[] = []
    // The screens behind them are checked above.
    const floating = 'dialog[open], .popover, [role=menu]'
    const check = async (hash: string, open: () => Promise<void>, shown = page.getByRole('dialog')) => {
      await go(page, hash)
      await page.getByRole('heading', { level: 1 }).waitFor()
      await open()
      await shown.waitFor()
      found.push(...(await findAccessibilityFaults(page, ['light', 'dark'], floating)).map((fault) => `${hash} ${fault}`))
      await page.keyboard.press('Escape')
    }
    await check('#/models', press('Add a model'))
    await check('#/runs', press('Filter'), page.getByRole('combobox', { name: 'Comparison' }))
    await check('#/runs', press('Columns'), page.getByRole('menu'))
    await check('#/runs', () => page.keyboard.press('Control+k'))
    await check(run, press('Save the model …'), page.getByRole('checkbox', { name: /Q4_K_M/ }))
    await check(run, press(/^Repair this run/), page.getByText(/^Takes (about|under|\d)/))
    await check('#/compare', press('Choose runs'))
    await check('#/models', () => page.keyboard.press('?'))
    expect(found).toEqual([])
  })

  test('keeps its content inside the window at twice the size', async () => {
    await page.setViewportSize({ width: 720, height: 450 })
    const wide: string[] = []
    for (const hash of ['#/models', '#/new', '#/runs', '#/settings', '#/playground']) {
      await go(page, hash)
      await settle(page)
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
      if (over > 0) wide.push(`${hash} ${over} px`)
    }
    await page.setViewportSize({ width: 1440, height: 900 })
    expect(wide).toEqual([])
  })
})

test('through all of this the content policy and Trusted Types reported nothing and no error was left uncaught', () => {
  expect(screen.faults).toEqual([])
})
