/**
 * A preset of New experiment from its first run to its verdict, as the workbench works it: `npm run bench -- worth MODEL FOLDER [PRESET]`.
 * A size such as `300MB` instead of a preset is a quick answer.
 *
 * FOLDER keeps the history. A command that was killed goes on with the runs that are left; `espalier worth --data FOLDER` and the workbench
 * on FOLDER show the verdict again.
 */
import { argv } from 'node:process'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { costsOf } from '#contract/comparison/costs.ts'
import { worthOf } from '#contract/comparison/verdict.ts'
import { verdictTexts } from '#contract/comparison/verdict-sentence.ts'
import { duelText, outcomeText } from '#contract/comparison/worth.ts'
import { isPruned } from '#contract/comparison/worth-runs.ts'
import { parseFileSize } from '#contract/runs/amount-text.ts'
import { openWorkbench } from '#services/workbench.ts'

const [path = '', folder = '', presetName = 'worth-it'] = argv.slice(2)
const workbench = await openWorkbench({ folder, worksQueue: true })
const { call } = workbench
try {
  const experiment = await experimentOf()
  await finished(experiment)
  await print(experiment)
} finally {
  await workbench.close()
}

/** The experiment of an earlier call, otherwise a new one. */
async function experimentOf(): Promise<string> {
  const known = (await call('experiments.list', {})).find(({ name }) => name === presetName)
  if (known) return known.id
  const model = (await call('models.list', {})).find((known) => known.path === path) ?? (await call('models.add', { path }))
  const bytes = parseFileSize(presetName)
  if (bytes !== undefined) {
    // A quick answer is as thorough as this machine's speed allows.
    await call('engine.selfTest', { backend: 'auto' })
    const { grid, preview } = await call('experiments.quick', { model: model.id, target: { bytes } })
    console.error(`${preview.runs} runs${preview.seconds ? `, about ${preview.seconds.likely.toFixed(0)} s` : ''}`)
    return (await call('experiments.create', { name: presetName, grid, start: 'queue' })).experiment.id
  }
  const preset = (await call('experiments.presets', { model: model.id })).find(({ id }) => id === presetName)
  if (!preset) throw new Error(`The model has no preset ${presetName}.`)
  const { experiment } = await call('experiments.create', { name: presetName, grid: preset.grid, start: 'queue' })
  return experiment.id
}

/** Waits until all runs of the experiment have ended, and reports each. */
async function finished(experiment: string): Promise<void> {
  const reported = new Set<string>()
  const { promise, resolve } = Promise.withResolvers<void>()
  const look = async () => {
    const { rows } = await call('runs.query', { experiment, limit: 500 })
    const ended = rows.filter(({ endedAt }) => endedAt !== null)
    for (const { id, name, status, seconds } of ended) {
      if (!reported.has(id)) console.error(`${name}: ${status}, ${seconds?.toFixed(0)} s`)
      reported.add(id)
    }
    if (ended.length === rows.length) resolve()
  }
  const stop = workbench.subscribe((event) => event.name === 'run changed' && event.data.run.endedAt !== null && void look())
  await look()
  await promise
  stop()
}

async function print(experiment: string): Promise<void> {
  const { rows } = await call('runs.query', { experiment, limit: 500 })
  const { runs } = await call('compare.get', { ids: rows.map(({ id }) => id) })
  const seconds = runs.reduce((sum, run) => sum + (run.seconds ?? 0), 0)
  console.log(`${runs.length} runs in ${(seconds / 60).toFixed(1)} minutes\n`)
  for (const cost of costsOf(runs, isPruned)) console.log(`${cost.title}: ${verdictTexts(worthOf(runs, cost)).join('\n')}\n`)
  printTable(runs)
}

/** Every file, the largest first. */
function printTable(runs: readonly ComparedRun[]): void {
  const { rows, duels, fronts } = worthOf(runs)
  const named = (run: string | undefined, name: string, dataset: string) =>
    runs.find(({ id }) => id === run)?.measures.find((measure) => measure.name === name && measure.dataset.startsWith(dataset))?.value
  const deciding = fronts.filter(({ decides }) => decides)
  const against = deciding.map(({ kind }) => `against it on ${kind}`)
  const labels = ['file', 'MB', ...fronts.map(({ kind }) => kind), 'loops', 'first token [ms]', 'tokens/s', 'against', ...against, 'result']
  console.log(`| ${labels.join(' | ')} |\n| ${labels.map(() => '---').join(' | ')} |`)
  for (const row of rows.toSorted((a, b) => b.cost.mean - a.cost.mean)) {
    const duel = duels.find(({ pruned }) => pruned === row)
    const cells = [
      row.name,
      (row.cost.mean / 1e6).toFixed(1),
      ...fronts.map(({ kind }) => row.quality[kind]?.mean.toFixed(1)),
      row.loops === null ? undefined : `${Math.round(100 * row.loops)} %`,
      named(row.runs[0], 'time to first token', '')?.toFixed(0),
      named(row.runs[0], 'tokens per second', 'decode')?.toFixed(1),
      duel?.rival?.name,
      ...deciding.map(({ kind }) => duel && duelText(duel, kind)?.text),
      duel && outcomeText(duel),
    ]
    console.log(`| ${cells.map((cell) => cell ?? '–').join(' | ')} |`)
  }
}
