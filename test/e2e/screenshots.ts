import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { argv } from 'node:process'
import type { Page } from 'playwright-core'
import type { GridInput } from '#contract/experiments.ts'
import { launchBrowser } from './browser.ts'
import { eventually, go, openScreen, type Theme } from './screens.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

/**
 * Pictures of every screen, light and dark, at three widths, full of real data from the sample model: `npm run screenshots [-- FOLDER]`.
 * Labels that are cut without a way to read them end it with an error.
 */
const folder = argv[2] ?? join(import.meta.dirname, '../../resources/screenshots')

interface Subjects {
  model: string
  experiment: string
  run: string
  runs: string[]
  transcript: string
  inspection: string
}

interface Picture {
  name: string
  hash: (subjects: Subjects) => string
  height?: number
  prepare?: (page: Page) => Promise<void>
}

const pictures: Picture[] = [
  { name: 'models', hash: () => '#/models' },
  { name: 'model', hash: ({ model }) => `#/models/${model}` },
  { name: 'new-experiment', hash: ({ model }) => `#/new?model=${model}`, height: 1000 },
  { name: 'experiments', hash: () => '#/experiments' },
  { name: 'experiment', hash: ({ experiment }) => `#/experiments/${experiment}`, height: 1000 },
  { name: 'runs', hash: () => '#/runs' },
  { name: 'runs-grouped', hash: () => '#/runs?group=method' },
  { name: 'run', hash: ({ run }) => `#/run/${run}` },
  { name: 'run-neurons', hash: ({ run }) => `#/run/${run}?tab=neurons` },
  { name: 'run-details', hash: ({ run }) => `#/run/${run}?tab=details` },
  { name: 'compare', hash: ({ experiment }) => `#/compare?experiment=${experiment}`, height: 1900 },
  {
    name: 'playground',
    hash: ({ runs, transcript }) => `#/playground?runs=${runs.join(',')}&transcript=${transcript}`,
    height: 1000,
    prepare: showToken,
  },
  { name: 'what-broke', hash: ({ inspection }) => `#/broke/${inspection}`, height: 1000, prepare: showWorst },
  { name: 'judge', hash: () => '#/judge' },
  { name: 'settings', hash: () => '#/settings', height: 1000 },
]

async function showWorst(page: Page): Promise<void> {
  await page.getByRole('region', { name: 'Worst places' }).getByRole('button').first().click()
}

async function showToken(page: Page): Promise<void> {
  await page.locator('[data-token="2"]').nth(1).hover()
}

/** Runs a grid on the sample model, with tags and notes as a person would leave them, and lets four models answer. */
async function fill(workbench: Workbench): Promise<Subjects> {
  const [model] = await workbench.call('models.list', {})
  if (!model) throw new Error('The sample model is missing; there is nothing to show.')
  const [preset] = await workbench.call('experiments.presets', { model: model.id })
  const { methods } = await workbench.call('methods.list', {})
  const grid: GridInput = {
    ...(preset?.grid ?? { models: [model.id] }),
    methods: methods.filter(({ id }) => !/evopress|submodule/.test(id)).map(({ id }) => ({ method: id })),
    amounts: [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }],
    measures: [...(preset?.grid.measures ?? []), { kind: 'inference', sequenceLength: 128, repeats: 3 }],
  }
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
  const data = { source: join(import.meta.dirname, '../../resources/sample-model/test.txt'), sequenceLength: 256, windows: 16 }
  const inspection = await workbench.call('runs.inspect', { inspect: { kind: 'divergence', runs: runs.slice(0, 3), data } })
  await eventually(
    () => workbench.call('runs.get', { id: inspection.id }),
    ({ status }) => status === 'done',
    300_000,
  )
  await workbench.call('engine.selfTest', {}).catch(() => undefined)
  return { model: model.id, experiment: experiment.id, run: best.id, runs, transcript: started.id, inspection: inspection.id }
}

const widths = [1440, 1024, 800]

/** Labels whose text does not fit, and that neither end in dots nor say the whole in a title. */
function findCutLabels(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const labels = [...document.querySelectorAll<HTMLElement>('button, th, dt, label, h1, h2, h3, .chip, [role="tab"]')]
    const isCut = (element: HTMLElement) => {
      const style = getComputedStyle(element)
      const hides = style.overflowX === 'hidden' || style.overflowX === 'clip'
      return hides && style.textOverflow !== 'ellipsis' && element.clientWidth > 1 && element.scrollWidth > element.clientWidth + 1
    }
    return labels.filter((element) => isCut(element) && !element.title).map((element) => element.textContent?.trim().slice(0, 60) ?? '')
  })
}

async function take(page: Page, picture: Picture, subjects: Subjects, theme: Theme, width: number): Promise<string[]> {
  await page.setViewportSize({ width, height: picture.height ?? 900 })
  await go(page, picture.hash(subjects))
  await page.waitForTimeout(1200)
  await picture.prepare?.(page)
  await page.waitForTimeout(300)
  const size = width === widths[0] ? '' : `-${width}`
  await page.screenshot({ path: join(folder, `${picture.name}-${theme}${size}.png`) })
  return (await findCutLabels(page)).map((label) => `${picture.name} at ${width}: ${label}`)
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
  for (const label of new Set(cut)) console.log(`cut: ${label}`)
  process.exitCode = cut.length > 0 ? 1 : 0
} finally {
  await browser.close()
  await workbench.close()
}
