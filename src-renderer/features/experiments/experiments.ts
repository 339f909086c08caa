import { changeText, deltaOf } from '#contract/comparison/change.ts'
import { whyApart } from '#contract/comparison/comparable.ts'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { type Cost, costAskedFor, costsOf } from '#contract/comparison/costs.ts'
import { subjectTitle } from '#contract/comparison/measure-columns.ts'
import { lineKey, type SeedGroup } from '#contract/comparison/seeds.ts'
import { methodOrder, seriesTitle, treatmentOf } from '#contract/comparison/series.ts'
import { isPruned } from '#contract/comparison/worth-runs.ts'
import { beginTitles } from '#contract/data/begin-token.ts'
import { sourceName } from '#contract/data/source-name.ts'
import type { ExperimentEntry, Grid } from '#contract/experiments/experiments.ts'
import { recoveryTitle } from '#contract/pruning/recovery.ts'
import { repairTitles } from '#contract/pruning/repair.ts'
import { amountText, isPlain } from '#contract/runs/amount-text.ts'
import { hasSeveralModels } from '#contract/runs/model-names.ts'
import { optionText } from '#contract/runs/parameter-titles.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { usedModelOf, usedSameModel } from '#contract/runs/used-model.ts'
import { isInspection, weightText } from '#contract/titles.ts'
import { lowerFirst } from '#contract/words.ts'
import type { ScatterPoint } from '../../charts/scatter.ts'
import { formatPlural, formatShare } from '../../lib/format.ts'
import { seriesStyle } from '../../lib/series-style.ts'

/** The progress of an experiment, in words: `5 of 7 done, 1 failed`. */
export function progressText({ counts, runs }: Pick<ExperimentEntry, 'counts' | 'runs'>): string {
  const others = (['running', 'failed', 'interrupted', 'cancelled', 'paused', 'draft'] as const).flatMap((status) =>
    counts[status] ? [`${counts[status]} ${status}`] : [],
  )
  const done = counts.done ?? 0
  return [done === runs ? `${formatPlural(runs, 'run')} done` : `${done} of ${runs} done`, ...others].join(', ')
}

/** Whether no run of an experiment is left to do. */
export function isOver({ counts }: Pick<ExperimentEntry, 'counts'>): boolean {
  return (counts.queued ?? 0) + (counts.running ?? 0) + (counts.paused ?? 0) === 0
}

/** The grid as a list of facts: what the experiment requested. */
export function gridFacts(grid: Grid, titleOf: (method: string) => string): { title: string; text: string }[] {
  const methods = grid.methods.map(({ method, options }) => {
    const chosen = Object.entries(options).map(([name, value]) => optionText(name, value))
    return chosen.length > 0 ? `${titleOf(method)} (${chosen.join(', ')})` : titleOf(method)
  })
  const amounts = grid.amounts.map((amount) => ('sparsity' in amount ? formatShare(amount.sparsity) : amountText(amount)))
  const texts = grid.measures.flatMap((measure) => (measure.kind === 'perplexity' ? [measure.name] : []))
  const others = grid.measures.flatMap((measure) => (measure.kind === 'perplexity' ? [] : [otherMeasure(measure)]))
  return [
    { title: 'Methods', text: methods.join(' · ') },
    { title: 'Amounts', text: amounts.join(', ') },
    { title: 'Seeds', text: grid.seeds.join(', ') },
    { title: 'Repair', text: treatmentText(grid.repairs, 'as pruned', (kind) => repairTitles[kind]) },
    { title: 'Recovery', text: treatmentText(grid.recoveries, 'not recovered', recoveryTitle) },
    { title: 'Weights', text: weightsText(grid) },
    ...(grid.siblings?.length ? [{ title: 'Rivals', text: formatPlural(grid.siblings.length, 'smaller model') }] : []),
    ...(grid.calibration ? [{ title: 'Calibration', text: dataText(grid.calibration) }] : []),
    ...(grid.beginToken ? [{ title: 'Begin token', text: beginTitles[grid.beginToken] }] : []),
    { title: 'Measured', text: [...texts.map((name) => `perplexity on ${name}`), ...others].join(', ') || 'sizes only' },
  ].filter(({ text }) => text !== '')
}

/** The types of weights; empty if all are as computed. */
function weightsText({ weights = [], rivals = [] }: Grid): string {
  if (weights.length + rivals.length === 0) return ''
  return [
    ...(weights.length > 0 ? weights.map(weightText) : ['as computed']),
    ...rivals.map((type) => `${weightText(type)} (unpruned)`),
  ].join(', ')
}

/** The requested repairs or recoveries; empty if there are none. */
function treatmentText<Choice>(choices: readonly (Choice | 'none')[] = [], none: string, titleOf: (choice: Choice) => string): string {
  const isRequested = choices.some((choice) => choice !== 'none')
  return isRequested ? choices.map((choice) => (choice === 'none' ? none : titleOf(choice))).join(', ') : ''
}

function otherMeasure(measure: Grid['measures'][number]): string {
  if (measure.kind === 'tasks') return measure.tasks.map((task) => subjectTitle(task)).join(', ')
  if (measure.kind === 'repetition') return 'answers that loop'
  if (measure.kind === 'long context') return 'long context'
  return measure.kind === 'inference' ? 'inference time' : 'answers'
}

function dataText({ source, sequenceLength, windows }: NonNullable<Grid['calibration']>): string {
  return `${sourceName(source)}, ${windows === undefined ? '' : `${formatPlural(windows, 'window')} of `}${formatPlural(sequenceLength, 'token')}`
}

/** The perplexity that the outcome shows: the first that any run has measured. */
export function leadingPerplexity(runs: readonly RunEntry[]): { name: string; dataset: string } | null {
  const first = runs.flatMap(({ measures }) => measures).find(({ name }) => name === 'perplexity')
  return first ? { name: first.name, dataset: first.dataset } : null
}

/** How a value of a run, or a mean over its seeds, differs from its baseline's; empty if they cannot be compared. */
export function changeFromBaseline(runs: readonly RunEntry[], run: RunEntry, value: number, dataset: string): string {
  const baseline = baselineOf(runs, run)
  if (!baseline || run.baseline || whyApart(run, baseline, { name: 'perplexity', dataset }) !== null) return ''
  const dense = perplexityOf(baseline, dataset)
  return dense === null ? '' : changeText(deltaOf(value, dense, true))
}

export function perplexityOf(run: RunEntry, dataset: string): number | null {
  return run.measures.find((measure) => measure.name === 'perplexity' && measure.dataset === dataset)?.value ?? null
}

/** The baseline that was computed last, or the first one if none is done yet. */
export function latestBaseline(runs: readonly RunEntry[]): RunEntry | null {
  const baselines = runs.filter(({ baseline }) => baseline)
  const done = baselines.filter(({ status }) => status === 'done').sort((a, b) => b.createdAt - a.createdAt)
  return done[0] ?? baselines[0] ?? null
}

/** The dense run that a run is compared with. Both used exactly the same model. */
export function baselineOf(runs: readonly RunEntry[], run: RunEntry): RunEntry | null {
  return runs.find((other) => other.baseline && usedSameModel(usedModelOf(other), usedModelOf(run))) ?? null
}

/** Says that models were replaced between the runs. */
export function changedModelsText(models: readonly string[]): string {
  const [subject, verb] = models.length === 1 ? ['The model', 'was'] : ['The models', 'were']
  return `${subject} ${models.join(', ')} ${verb} replaced after runs of this experiment were computed. Each run is compared with the baseline of the model that it used.`
}

/** What an outcome is shown against: what every amount limits, such as the size of the file, or null for the sparsity reached. */
export const acrossOf = ({ amounts }: Pick<Grid, 'amounts'>, runs: readonly ComparedRun[]): Cost | null =>
  amounts.length > 0 && amounts.every((amount) => !isPlain(amount)) ? costAskedFor(amounts, costsOf(runs, isPruned)) : null

/** The title of an outcome's axis, within a sentence. */
export function axisTitle(across: Cost | null): string {
  if (across === null) return 'sparsity reached'
  return across.id.startsWith('tokens per second/') ? 'tokens a second while writing' : lowerFirst(across.title)
}

/**
 * One point for each finished run, or for the seeds of one together; grouped by method and repair, and by model where there are several.
 * `sets` are the groups that can be compared.
 */
export function pointsOf(sets: readonly (readonly SeedGroup<RunEntry>[])[], measure: string, across: Cost | null = null): ScatterPoint[] {
  const manyModels = hasSeveralModels(sets.flat().flatMap(({ runs }) => runs))
  const groups = sets.flatMap((set, index) => set.map((group) => ({ ...group, set: index })))
  return groups.flatMap(({ name, model, runs: [run], reached, measures, set }) => {
    const found = measures.get(measure)
    const x = across === null ? reached : (measures.get(across.id)?.mean ?? null)
    if (!run || run.baseline || x === null || !found) return []
    const treatment = treatmentOf(run)
    const title = [seriesTitle(run.method, treatment), ...(manyModels ? [model] : [])].join(', ')
    const place = { x, y: found.mean, spread: found.count > 1 ? found.spread : null, factor: found.factor, set }
    const line = `${set} ${lineKey(run)}`
    return [{ ...seriesStyle(run.method, treatment), ...place, id: run.id, label: name, series: title, line, size: 0.45 }]
  })
}

/** Sorts runs for a table: the dense model first, then method by method, untreated first, with rising sparsity; what inspects them last. */
export function orderRuns(runs: readonly RunEntry[]): RunEntry[] {
  const rank = (run: RunEntry) => (run.baseline ? -1 : isInspection(run.method) ? methodOrder.length : methodOrder.indexOf(run.method))
  return [...runs].sort(
    (a, b) =>
      rank(a) - rank(b) ||
      (treatmentOf(a) ?? '').localeCompare(treatmentOf(b) ?? '') ||
      (a.nominal ?? 0) - (b.nominal ?? 0) ||
      a.seed - b.seed ||
      a.createdAt - b.createdAt,
  )
}
