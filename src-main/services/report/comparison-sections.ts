import { at } from '#contract/at.ts'
import { formatNumber } from '#contract/comparison/cell-text.ts'
import { apartTexts, comparableSets } from '#contract/comparison/comparable.ts'
import type { Comparison } from '#contract/comparison/compare.ts'
import { comparedGroups, comparisonTable } from '#contract/comparison/comparison.ts'
import { measureColumns } from '#contract/comparison/measure-columns.ts'
import { noiseLevel } from '#contract/comparison/paired.ts'
import { hasSeveralModels, hasSeveralSeeds, lineKey, type SeedGroup } from '#contract/comparison/seeds.ts'
import { plainColours, seriesColours, seriesLook, seriesTitle, treatmentOf } from '#contract/comparison/series.ts'
import { type OptionTitle, sparsityTables } from '#contract/comparison/sparsity-table.ts'
import type { Table } from '#contract/comparison/table.ts'
import { upperFirst } from '#contract/words.ts'
import { renderSvg } from '../comparison/plot-svg.ts'
import { type Block, estimated, heading, named, paragraph, percent, tableBlock, transposed } from './blocks.ts'

/** How many runs fit side by side as columns of a table. */
const mostColumns = 8

/** Number of columns before the measures: model, method, sparsity, reached, seed. */
const firstMeasure = 5

/** Columns that follow the names in the first table: the model and the reached sparsity. */
const factColumns = [0, 3]

/** How many measures fit side by side as columns. */
const mostMeasures = 6

/** Shows the comparison as on the screen: all measures, each quality by method and sparsity, and a plot of perplexity over sparsity. */
export async function comparisonSection({ runs, baseline }: Comparison, overSeeds: boolean, titleOf: OptionTitle): Promise<Block[]> {
  const measured = runs.filter(({ measures }) => measures.length > 0)
  if (measured.length === 0) return []
  const groups = comparedGroups(measured, baseline, overSeeds)
  const means = overSeeds && hasSeveralSeeds(measured) ? 'Means over seeds with their deviation' : 'Measures by run'
  const whole = comparisonTable(measured, baseline, overSeeds)
  return [
    heading(2, 'What it cost'),
    ...measureTables(whole, groups).map((table): Block => ({ kind: 'table', table, caption: captionOf(means, whole) })),
    ...sparsityTables(measured, titleOf).map(
      ({ title, table: own }): Block => ({
        kind: 'table',
        table: { ...own, notes: [] },
        caption: captionOf(`${upperFirst(title)} by method and sparsity`, own),
      }),
    ),
    ...(await perplexityPlot(groups)),
  ]
}

const captionOf = (title: string, { notes = [] }: Table): string => [`${title}.`, ...notes].join(' ')

/** Makes one table with a column for each result, or with many results several tables with a row for each. */
function measureTables(table: Table, groups: readonly SeedGroup[]): Table[] {
  const names = groups.map(({ name }) => name)
  if (groups.length <= mostColumns) return [transposed(table, firstMeasure, names)]
  const measures = table.columns.map((_, column) => column).slice(firstMeasure)
  const parts = Array.from({ length: Math.ceil(measures.length / mostMeasures) }, (_, part) =>
    measures.slice(part * mostMeasures, (part + 1) * mostMeasures),
  )
  return parts.map((part, order) => named(table, names, order === 0 ? [...factColumns, ...part] : part))
}

async function perplexityPlot(groups: readonly SeedGroup[]): Promise<Block[]> {
  const column = measureColumns(groups.flatMap(({ runs }) => runs)).find(({ name }) => name === 'perplexity')
  if (!column) return []
  const pointsOf = ({ measures, reached }: SeedGroup) => {
    const { mean, spread, count, factor } = measures.get(column.id) ?? { mean: Number.NaN, spread: null, count: 0, factor: false }
    return Number.isFinite(mean) ? [{ x: reached ?? 0, y: mean, ...(spread !== null && count > 1 ? { spread, factor } : {}) }] : []
  }
  const sets = comparableSets(
    groups.filter(({ measures }) => measures.has(column.id)),
    [column],
  )
  // A line connects only what can be compared.
  const setOf = new Map(sets.flatMap((set, index) => set.map((group) => [group, index] as const)))
  const looks: string[] = []
  const manyModels = hasSeveralModels(groups.flatMap(({ runs }) => runs))
  const series = [...Map.groupBy(groups, (group) => `${setOf.get(group)} ${lineKey(at(group.runs, 0))}`).values()].map((own) => {
    const run = at(at(own, 0).runs, 0)
    const { colour } = seriesLook(run.method)
    looks.push((colour === null ? plainColours : at(seriesColours, colour)).light)
    const name = [seriesTitle(run.method, treatmentOf(run)), ...(manyModels ? [run.model.name] : [])].join(', ')
    return { name, points: own.flatMap(pointsOf).sort((a, b) => a.x - b.x) }
  })
  const title = `Perplexity on ${column.dataset || 'the test text'}`
  const axes = { x: { label: 'Removed share of the block stack', scale: 'linear' }, y: { label: 'Perplexity', scale: 'log' } } as const
  const svg = await renderSvg({ title, ...axes, series }, looks)
  const descriptions = series.map(
    ({ name, points }) => `${name}: ${points.map(({ x, y }) => `${percent(x)} ${formatNumber(y)}`).join(', ')}`,
  )
  return [
    { kind: 'picture', svg, onWhite: true, alternative: `${title} against the removed share. ${descriptions.join('; ')}.` },
    ...apartTexts(sets, [column], ({ name }) => name).map(paragraph),
  ]
}

/** Shows how many questions each run answers differently from the baseline, and whether that is more than noise. */
export function flipsSection({ runs }: Comparison): Block[] {
  const rows = runs.flatMap((run) =>
    run.paired.map(({ task, measure, questions, first, second, gained, lost, probability }) => [
      run.name,
      task,
      measure,
      questions,
      estimated(first),
      estimated(second),
      gained,
      lost,
      probability.toPrecision(3),
      probability < noiseLevel ? 'differs' : 'within noise',
    ]),
  )
  if (rows.length === 0) return []
  const labels = ['Run', 'Task', 'Measure', 'Questions', 'Baseline', 'This run', 'Became right', 'Became wrong', 'McNemar p', 'Conclusion']
  return [
    heading(2, 'Questions that flipped'),
    paragraph(
      `Compared with the baseline on the same questions. p is from McNemar’s exact test. A difference that occurs by chance more than once in ${Math.round(1 / noiseLevel)} is called noise.`,
    ),
    tableBlock(labels, rows, 'Answers to the same questions'),
  ]
}
