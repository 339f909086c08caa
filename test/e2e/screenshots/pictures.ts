import type { Page } from 'playwright-core'
import { eventually } from '../../eventually.ts'
import type { Subjects } from './history.ts'

export interface Picture {
  name: string
  hash: (subjects: Subjects) => string
  height?: number
  prepare?: (page: Page) => Promise<void>
}

const open = (button: string | RegExp) => async (page: Page) => {
  await page.getByRole('button', { name: button }).first().click()
  await page.getByRole('dialog').or(page.getByRole('menu')).first().waitFor()
}

/** Opens a menu, and the dialog behind one of its items. */
const choose = (menu: string | RegExp, item: string | RegExp) => async (page: Page) => {
  await open(menu)(page)
  await page.getByRole('menuitem', { name: item }).click()
  await page.getByRole('dialog').first().waitFor()
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

/** The options of a method, several sparsities, a repair, and every measure. */
async function fillForm(page: Page): Promise<void> {
  await page
    .getByRole('button', { name: /^Options of 2SSP/ })
    .first()
    .click()
  for (const name of [/^Block by block/, /^Train/, /^Long context/, /^Looping answers/])
    await page.getByRole('checkbox', { name }).first().check()
}

async function detect(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Detect devices' }).click()
  await eventually(
    () => page.getByRole('button', { name: 'Detect devices' }).isEnabled(),
    (enabled) => enabled,
    60_000,
  )
}

async function chooseRuns(page: Page): Promise<void> {
  for (const at of [0, 1]) await page.locator(`tr[data-row="${at}"] input[type="checkbox"]`).check()
}

async function showWorst(page: Page): Promise<void> {
  await page.getByRole('region', { name: 'Largest differences' }).getByRole('button').first().click()
}

async function reveal(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Finish and reveal' }).click()
  await page.getByRole('region', { name: 'Ranking' }).waitFor()
}

async function showToken(page: Page): Promise<void> {
  await page.locator('[data-token="2"]').nth(1).hover()
}

/** Before anything was done: what a new user reads. */
export const emptyPictures: Picture[] = [
  { name: 'empty-models', hash: () => '#/models' },
  { name: 'empty-experiments', hash: () => '#/experiments' },
  { name: 'empty-runs', hash: () => '#/runs' },
  { name: 'empty-compare', hash: () => '#/compare' },
  { name: 'empty-what-broke', hash: () => '#/broke' },
  { name: 'empty-playground', hash: () => '#/playground' },
  { name: 'empty-judge', hash: () => '#/judge' },
]

const runPictures: Picture[] = [
  { name: 'run', hash: ({ run }) => `#/run/${run}` },
  { name: 'run-scores', hash: ({ sliced }) => `#/run/${sliced}?tab=scores` },
  { name: 'run-log', hash: ({ run }) => `#/run/${run}?tab=log` },
  { name: 'run-neurons', hash: ({ run }) => `#/run/${run}?tab=neurons` },
  { name: 'run-details', hash: ({ run }) => `#/run/${run}?tab=details` },
  { name: 'run-gates', height: 2400, hash: ({ gated }) => `#/run/${gated}` },
  { name: 'run-repair', hash: ({ repaired }) => `#/run/${repaired}?tab=repair` },
  { name: 'run-recovery', hash: ({ recovered }) => `#/run/${recovered}?tab=recovery` },
  { name: 'run-experts', hash: ({ withoutExperts }) => `#/run/${withoutExperts}?tab=experts` },
  { name: 'run-ablation', hash: ({ ablation }) => `#/run/${ablation}` },
  { name: 'run-failed', hash: ({ failed }) => `#/run/${failed}` },
  { name: 'run-answers', hash: ({ answers }) => `#/run/${answers}` },
  { name: 'save', hash: ({ run }) => `#/run/${run}`, prepare: openFormats },
  { name: 'saved', hash: ({ run }) => `#/run/${run}`, prepare: saveModel },
  { name: 'repair', hash: ({ run }) => `#/run/${run}`, prepare: open(/^Repair this run/) },
  { name: 'recover', hash: ({ run }) => `#/run/${run}`, prepare: open(/^Recover this run/) },
]

const historyPictures: Picture[] = [
  { name: 'runs', hash: () => '#/runs' },
  { name: 'runs-grouped', hash: () => '#/runs?group=method~nominal' },
  { name: 'runs-columns', hash: () => '#/runs', prepare: open('Columns') },
  { name: 'runs-views', hash: () => '#/runs', prepare: (page) => page.getByRole('button', { name: 'Views' }).click() },
  { name: 'runs-chosen', hash: () => '#/runs', prepare: chooseRuns },
  {
    name: 'runs-tags',
    hash: () => '#/runs',
    async prepare(page) {
      await chooseRuns(page)
      await choose('More for the chosen runs', /^Tags and notes/)(page)
    },
  },
  { name: 'palette', hash: () => '#/runs', prepare: (page) => page.keyboard.press('Control+k') },
  { name: 'keyboard', hash: () => '#/experiments', prepare: (page) => page.keyboard.press('?') },
  { name: 'filter', hash: () => '#/runs', prepare: (page) => page.getByRole('button', { name: 'Filter', exact: true }).click() },
]

const answerPictures: Picture[] = [
  {
    name: 'playground',
    hash: ({ runs, transcript }) => `#/playground?runs=${runs.join(',')}&transcript=${transcript}`,
    height: 1000,
    prepare: showToken,
  },
  { name: 'playground-add', hash: ({ model }) => `#/playground?model=${model}`, prepare: open('Add pruned models') },
  { name: 'playground-prompts', hash: ({ model }) => `#/playground?model=${model}`, prepare: choose('Prompt sets', /^Save or remove/) },
  { name: 'transcripts', hash: () => '#/playground', prepare: open('Transcripts') },
  { name: 'what-broke-start', hash: ({ runs }) => `#/broke?runs=${runs[0]}` },
  { name: 'what-broke', hash: ({ inspection }) => `#/broke/${inspection}`, height: 1000, prepare: showWorst },
  { name: 'judge', hash: () => '#/judge' },
  { name: 'answers', hash: ({ answers }) => `#/judge/answers/${answers}` },
  { name: 'judging', hash: ({ judging }) => `#/judge/${judging}` },
  { name: 'judged', hash: ({ judging }) => `#/judge/${judging}`, height: 1000, prepare: reveal },
]

/** Every screen, tab and dialog, full of real data. */
export const pictures: Picture[] = [
  { name: 'models', hash: () => '#/models' },
  { name: 'add-model', hash: () => '#/models', prepare: open('Add a model') },
  { name: 'model', hash: ({ model }) => `#/models/${model}` },
  { name: 'mixture', hash: ({ mixture }) => `#/models/${mixture}` },
  { name: 'remove-model', hash: ({ model }) => `#/models/${model}`, prepare: open('Remove …') },
  { name: 'new-experiment', hash: ({ model }) => `#/new?model=${model}`, height: 1000 },
  { name: 'new-filled', hash: ({ model }) => `#/new?model=${model}`, height: 1000, prepare: fillForm },
  { name: 'experiments', hash: () => '#/experiments' },
  { name: 'experiment', hash: ({ experiment }) => `#/experiments/${experiment}`, height: 1000 },
  ...runPictures,
  ...historyPictures,
  { name: 'compare', hash: ({ experiment }) => `#/compare?experiment=${experiment}`, height: 1900 },
  {
    name: 'compare-runs',
    hash: ({ runs, repaired, recovered }) => `#/compare?runs=${[...runs, repaired, recovered].join(',')}`,
    height: 1900,
  },
  { name: 'compare-experts', hash: ({ mixtureExperiment }) => `#/compare?experiment=${mixtureExperiment}`, height: 1900 },
  { name: 'worth', hash: ({ experiment }) => `#/compare?experiment=${experiment}&view=worth`, height: 1000 },
  { name: 'choose-runs', hash: () => '#/compare', prepare: open('Choose runs') },
  ...answerPictures,
  { name: 'settings', hash: () => '#/settings', height: 1000, prepare: detect },
  { name: 'cluster', hash: () => '#/settings', prepare: open('Add cluster …') },
]

/** While a run is computed and others wait. */
export const busyPictures = (running: string): Picture[] => [
  { name: 'queue', hash: () => '#/runs' },
  { name: 'run-running', hash: () => `#/run/${running}` },
  { name: 'experiments-running', hash: () => '#/experiments' },
]
