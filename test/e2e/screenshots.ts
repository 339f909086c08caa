import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { argv } from 'node:process'
import type { Page } from 'playwright-core'
import type { GridInput } from '#contract/experiments/experiments.ts'
import { eventually } from '../eventually.ts'
import { launchBrowser } from './browser.ts'
import { go, openScreen, settle, type Theme } from './screens.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

/**
 * Pictures of every screen and dialog, light and dark, at three widths, full of real data: `npm run screenshots [-- FOLDER [MODEL]]`.
 * They go to `out/screenshots`, which git ignores; copy the few that the documents show to `docs` yourself.
 * The sample model is pruned by all methods, a model of one's own (a folder) by three, on little text. Labels that are cut without a way
 * to read them end it with an error.
 */
const folder = argv[2] ?? join(import.meta.dirname, '../../out/screenshots')
const ownModel = argv[3]
const sample = join(import.meta.dirname, '../../resources/sample-model')

interface Subjects {
  model: string
  experiment: string
  run: string
  /** A run of a method with scores of its own. */
  sliced: string
  runs: string[]
  transcript: string
  inspection: string
  judging: string
}

interface Picture {
  name: string
  hash: (subjects: Subjects) => string
  height?: number
  prepare?: (page: Page) => Promise<void>
}

const open = (button: string | RegExp) => async (page: Page) => {
  await page.getByRole('button', { name: button }).first().click()
  await page.getByRole('dialog').or(page.getByRole('menu')).first().waitFor()
}

async function openFormats(page: Page): Promise<void> {
  await open('Save the model …')(page)
  await page
    .getByRole('checkbox', { name: /Q4_K_M/ })
    .first()
    .waitFor({ timeout: 120_000 })
}

/** The reload test of three formats, as it stands when the saving is over. */
async function saveModel(page: Page): Promise<void> {
  await openFormats(page)
  for (const name of [/Stock/, /Q4_K_M/]) await page.getByRole('checkbox', { name }).first().check()
  // Each picture saves anew, and a name is taken once.
  await page.getByRole('textbox', { name: 'Name' }).fill(`Half the size ${Date.now() % 10_000}`)
  await page.getByRole('button', { name: 'Save', exact: true }).click()
  await page.getByText('Saved, reopened and compared.').waitFor({ timeout: 300_000 })
}

const pictures: Picture[] = [
  { name: 'models', hash: () => '#/models' },
  { name: 'add-model', hash: () => '#/models', prepare: open('Add a model') },
  { name: 'model', hash: ({ model }) => `#/models/${model}` },
  { name: 'new-experiment', hash: ({ model }) => `#/new?model=${model}`, height: 1000 },
  { name: 'experiments', hash: () => '#/experiments' },
  { name: 'experiment', hash: ({ experiment }) => `#/experiments/${experiment}`, height: 1000 },
  { name: 'runs', hash: () => '#/runs' },
  { name: 'runs-grouped', hash: () => '#/runs?group=method' },
  { name: 'run', hash: ({ run }) => `#/run/${run}` },
  { name: 'run-scores', hash: ({ sliced }) => `#/run/${sliced}?tab=scores` },
  { name: 'run-log', hash: ({ run }) => `#/run/${run}?tab=log` },
  { name: 'run-neurons', hash: ({ run }) => `#/run/${run}?tab=neurons` },
  { name: 'run-details', hash: ({ run }) => `#/run/${run}?tab=details` },
  { name: 'save', hash: ({ run }) => `#/run/${run}`, prepare: openFormats },
  { name: 'saved', hash: ({ run }) => `#/run/${run}`, prepare: saveModel },
  { name: 'repair', hash: ({ run }) => `#/run/${run}`, prepare: open(/^Repair this run/) },
  { name: 'palette', hash: () => '#/runs', prepare: (page) => page.keyboard.press('Control+k') },
  { name: 'filter', hash: () => '#/runs', prepare: (page) => page.getByRole('button', { name: 'Filter', exact: true }).click() },
  { name: 'compare', hash: ({ experiment }) => `#/compare?experiment=${experiment}`, height: 1900 },
  {
    name: 'playground',
    hash: ({ runs, transcript }) => `#/playground?runs=${runs.join(',')}&transcript=${transcript}`,
    height: 1000,
    prepare: showToken,
  },
  { name: 'what-broke', hash: ({ inspection }) => `#/broke/${inspection}`, height: 1000, prepare: showWorst },
  { name: 'judge', hash: () => '#/judge' },
  { name: 'judging', hash: ({ judging }) => `#/judge/${judging}` },
  { name: 'judged', hash: ({ judging }) => `#/judge/${judging}`, height: 1000, prepare: reveal },
  { name: 'settings', hash: () => '#/settings', height: 1000 },
]

async function showWorst(page: Page): Promise<void> {
  await page.getByRole('region', { name: 'Worst places' }).getByRole('button').first().click()
}

async function reveal(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Finish and reveal' }).click()
  await page.getByRole('region', { name: 'Ranking' }).waitFor()
}

async function showToken(page: Page): Promise<void> {
  await page.locator('[data-token="2"]').nth(1).hover()
}

/** Votes on the answers of a transcript, one pair being left to judge. */
async function judge(workbench: Workbench, transcript: string): Promise<string> {
  const { id, pairs } = await workbench.call('judgings.start', { transcript, seed: 0 })
  const votes = ['left', 'left', 'right', 'tie', 'left', 'both bad'] as const
  for (let vote = 0; vote < pairs - 1; vote++) {
    const { next } = await workbench.call('judgings.get', { id })
    if (next) await workbench.call('judgings.vote', { id, pair: next.pair, vote: votes[vote % votes.length] ?? 'tie' })
  }
  return id
}

async function gridFor(workbench: Workbench, model: string): Promise<GridInput> {
  const inference = { kind: 'inference' as const, sequenceLength: 128, repeats: 3 }
  const amounts = [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }]
  if (ownModel) {
    const data = (file: string, windows: number) => ({ source: join(sample, file), sequenceLength: 128, windows })
    const measures = [{ kind: 'perplexity' as const, name: 'Sample: test text', data: data('test.txt', 4) }, inference]
    const methods = ['2ssp', 'shortgpt', 'slicegpt'].map((method) => ({ method }))
    return { models: [model], methods, amounts, calibration: data('calibration.txt', 4), measures }
  }
  const [preset] = await workbench.call('experiments.presets', { model })
  const { methods } = await workbench.call('methods.list', {})
  return {
    ...(preset?.grid ?? { models: [model] }),
    methods: methods.filter(({ id, unit }) => unit !== 'experts' && !/evopress|submodule/.test(id)).map(({ id }) => ({ method: id })),
    amounts,
    measures: [...(preset?.grid.measures ?? []), inference],
  }
}

/** Runs a grid, with tags and notes as a person would leave them, and lets five models answer. */
async function fill(workbench: Workbench): Promise<Subjects> {
  const model = ownModel
    ? await workbench.call('models.add', { path: ownModel, mode: 'link' })
    : (await workbench.call('models.list', {}))[0]
  if (!model) throw new Error('The sample model is missing; there is nothing to show.')
  const grid = await gridFor(workbench, model.id)
  const { experiment } = await workbench.call('experiments.create', { name: 'Methods at three sparsities', grid, start: 'queue' })
  const { rows } = await eventually(
    () => workbench.call('runs.query', { sort: [{ field: 'createdAt', direction: 'ascending' }] }),
    (page) => page.rows.every(({ status }) => status === 'done' || status === 'failed'),
    2_700_000,
  )
  const pruned = rows.filter(({ baseline, status }) => !baseline && status === 'done')
  const best = pruned.find(({ method, nominal }) => method === '2ssp' && nominal === 0.5) ?? pruned[0]
  if (!best) throw new Error('No run of the pictures ended well.')
  await workbench.call('runs.update', { ids: [best.id], starred: true, addTags: ['table 1'], notes: 'The half-size model for the talk.' })
  const runs = pruned
    .filter(({ method }) => method === '2ssp' || method === 'shortgpt')
    .filter(({ nominal }) => nominal !== 0.375)
    .slice(0, 4)
    .map(({ id }) => id)
  const started = await workbench.call('playground.start', {
    columns: [{ model: model.id }, ...runs.map((run) => ({ run }))],
    prompts: [{ text: 'Who is Albert Einstein?' }, { text: 'What is a garden?' }],
    settings: { maxTokens: 48, seed: 3, decoding: { kind: 'sampling', temperature: 0.6 } },
  })
  await eventually(
    () => workbench.call('transcripts.get', { id: started.id }),
    ({ status }) => status !== 'running',
    300_000,
  )
  const data = { source: join(sample, 'test.txt'), sequenceLength: 256, windows: ownModel ? 4 : 16 }
  const inspection = await workbench.call('runs.inspect', { inspect: { kind: 'divergence', runs: runs.slice(0, 3), data } })
  await eventually(
    () => workbench.call('runs.get', { id: inspection.id }),
    ({ status }) => status === 'done',
    300_000,
  )
  await workbench.call('engine.selfTest', {}).catch(() => undefined)
  return {
    model: model.id,
    experiment: experiment.id,
    run: best.id,
    sliced: (pruned.find(({ method }) => method === 'slicegpt') ?? best).id,
    runs,
    transcript: started.id,
    inspection: inspection.id,
    judging: await judge(workbench, started.id),
  }
}

const widths = [1440, 1024, 800]

/** Labels whose text does not fit and is not told whole in a title, and heads that break within a word. */
function findCutLabels(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const labels = [...document.querySelectorAll<HTMLElement>('main *, [role="dialog"] *, [role="menu"] *')]
    const hasText = (element: HTMLElement) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent?.trim())
    const isCut = (element: HTMLElement) => {
      const { overflowX, clip } = getComputedStyle(element)
      const hides = (overflowX === 'hidden' || overflowX === 'clip') && clip === 'auto'
      return (
        hides && element.clientWidth > 1 && element.scrollWidth > element.clientWidth + 1 && !element.closest('[title], .visually-hidden')
      )
    }
    const isBroken = (element: HTMLElement) =>
      [...element.childNodes].some((node) => {
        if (node.nodeType !== 3) return false
        return [...(node.textContent ?? '').matchAll(/[\p{L}\d]+/gu)].some(({ index, 0: word }) => {
          const range = document.createRange()
          range.setStart(node, index)
          range.setEnd(node, index + word.length)
          const tops = [...range.getClientRects()].map(({ top }) => Math.round(top))
          return Math.max(...tops) - Math.min(...tops) > 6
        })
      })
    const texts = labels.filter((element) => hasText(element) && element.getClientRects().length > 0)
    const cut = texts.filter((element) => element.tagName !== 'TEXTAREA' && isCut(element)).map((element) => `cut: ${element.textContent}`)
    const heads = texts.filter((element) => element.closest('th, dt, button, label, h1, h2, h3') && isBroken(element))
    return [...cut, ...heads.map((element) => `broken: ${element.textContent}`)].map((text) => text.replace(/\s+/g, ' ').slice(0, 70))
  })
}

async function take(page: Page, picture: Picture, subjects: Subjects, theme: Theme, width: number): Promise<string[]> {
  await page.setViewportSize({ width, height: picture.height ?? 900 })
  await go(page, picture.hash(subjects))
  await settle(page)
  await picture.prepare?.(page)
  await settle(page)
  const size = width === widths[0] ? '' : `-${width}`
  await page.screenshot({ path: join(folder, `${picture.name}-${theme}${size}.png`) })
  const cut = await findCutLabels(page)
  await page.keyboard.press('Escape')
  return cut.map((label) => `${picture.name} at ${width}: ${label}`)
}

const workbench = await startWorkbench()
const cut: string[] = []
const browser = await launchBrowser()
try {
  await mkdir(folder, { recursive: true })
  const subjects = await fill(workbench)
  for (const theme of ['light', 'dark'] as const) {
    const { page, context } = await openScreen(browser, workbench, theme)
    for (const width of widths) for (const picture of pictures) cut.push(...(await take(page, picture, subjects, theme, width)))
    await context.close()
  }
  console.log(`${pictures.length * 2 * widths.length} pictures in ${folder}`)
  for (const label of new Set(cut)) console.log(label)
  process.exitCode = cut.length > 0 ? 1 : 0
} finally {
  await browser.close()
  await workbench.close()
}
