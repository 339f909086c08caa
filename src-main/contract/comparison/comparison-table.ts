import { at } from '../at.ts'
import { type UsedData, windowsText } from '../data/used-data.ts'
import type { MeasureSummary, RunEntry } from '../runs/runs.ts'
import { denseMethod, titleOfMethod } from '../titles.ts'
import { plural } from '../words.ts'
import { bestOf, markOf } from './best-results.ts'
import { apartResults, apartText, comparableSets } from './comparable.ts'
import type { ComparedRun } from './compared-run.ts'
import { columnLabel, type MeasureColumn, measureColumns, measureOf } from './measure-columns.ts'
import { groupEach, groupOverSeeds, hasSeveralSeeds, intervalOf, type SeedGroup } from './seeds.ts'
import { seriesTitle, treatmentOf } from './series.ts'
import type { Table, TableRow } from './table.ts'

/** Returns the groups to compare, the baseline first. Each run is a group, or with `overSeeds` all runs that differ only in the seed. */
export function comparedGroups(runs: readonly ComparedRun[], baseline: string | null, overSeeds: boolean): SeedGroup[] {
  const sorted = [...runs].sort((a, b) => Number(b.id === baseline) - Number(a.id === baseline))
  return overSeeds ? groupOverSeeds(sorted) : groupEach(sorted)
}

/** Explains the best marks of tables. */
const boldText = 'Bold: the best of those that can be compared, with all that do not differ clearly from it (95 % interval).'
/** Explains the spreads of tables over seeds. */
export const seedsText =
  'Perplexities over seeds: geometric mean ×/÷ one deviation as a factor. ±: one deviation over seeds, or one standard error for a single run.'

/** Makes a table of the comparison: one row per compared group, one column per measure (or per measure in `chosen`). */
export function comparisonTable(
  runs: readonly ComparedRun[],
  baseline: string | null,
  overSeeds: boolean,
  chosen?: readonly string[],
): Table {
  const groups = comparedGroups(runs, baseline, overSeeds)
  const counts = overSeeds && hasSeveralSeeds(runs)
  const columns = measureColumns(groups.flatMap((group) => group.runs)).filter(({ id }) => chosen?.includes(id) ?? true)
  const isPinned = (group: SeedGroup) => at(group.runs, 0).id === baseline
  const [rivals, pinned] = [groups.filter((group) => !isPinned(group)), groups.find(isPinned) ?? null]
  const best = new Map(columns.map((column) => [column.id, bestOf(rivals, column, pinned)]))
  return {
    caption: `${overSeeds ? 'Results over seeds' : 'Results of each run'}. ${comparedText(groups, columns)}`,
    notes: [
      boldText,
      ...(groups.some(({ seeds }) => seeds > 1) ? [seedsText] : []),
      ...comparisonNotes(groups, columns),
      ...fewerWindowsNotes(groups),
    ],
    columns: [
      { label: 'Model', numeric: false },
      { label: 'Method', numeric: false },
      { label: 'Sparsity', numeric: true },
      { label: 'Reached', numeric: true },
      { label: counts ? 'Seeds' : 'Seed', numeric: true },
      ...columns.map((column) => ({
        label: columnLabel(column),
        numeric: true,
        better: column.lowerIsBetter ? ('lower' as const) : ('higher' as const),
      })),
    ],
    rows: groups.map((group) => tableRow(group, columns, best, counts)),
  }
}

/** Says what is compared: the models, the windows or questions of each measure, and how many seeds. */
export function comparedText(
  groups: readonly Pick<SeedGroup<RunEntry>, 'runs' | 'measures' | 'seeds'>[],
  columns: readonly MeasureColumn[],
): string {
  const list = new Intl.ListFormat('en-GB')
  const models = [...new Set(groups.flatMap(({ runs }) => runs.map(({ model }) => model.name)))]
  const measured = columns.flatMap((column) => {
    const shapes = new Set(groups.flatMap(({ runs }) => runs.flatMap((run) => shapeText(measureOf(run, column.id)) ?? [])))
    return shapes.size === 0 ? [] : `${columnLabel(column)} on ${list.format(shapes)}`
  })
  const seeds = groups.filter(({ runs }) => runs.some(({ method }) => method !== denseMethod)).map((group) => group.seeds)
  const [fewest, most] = [Math.min(...seeds), Math.max(...seeds)]
  const counted = fewest === most ? plural(most, 'seed') : `${fewest} to ${most} seeds`
  return [
    `Models: ${list.format(models)}.`,
    ...(measured.length > 0 ? [`Measured: ${measured.join('; ')}.`] : []),
    ...(seeds.length > 0 ? [`Each pruned result: ${counted}.`] : []),
  ].join(' ')
}

/** `8 windows of 256 tokens`, or `100 questions`; null if it is not known, or of no text. */
export function shapeText(measure: MeasureSummary | undefined): string | null {
  if (!measure?.on) return null
  const { count, sequenceLength } = measure.on
  return sequenceLength === undefined ? plural(count, 'question') : windowsText(count, sequenceLength)
}

/** Says which methods looked at fewer calibration windows than were requested: `Fewer calibration windows than requested: BlockPruner (1 of 8).` */
export function fewerWindowsNotes(groups: readonly { runs: readonly (RunEntry & { calibration?: UsedData | null })[] }[]): string[] {
  const notes = groups.flatMap(({ runs }) =>
    runs.flatMap(({ method, parameters, calibration }) => {
      const requested = parameters['calibration.windows']
      if (typeof requested !== 'number' || !calibration || calibration.windows >= requested) return []
      return `${titleOfMethod(method)} (${calibration.windows} of ${requested})`
    }),
  )
  return notes.length === 0 ? [] : [`Fewer calibration windows than requested: ${[...new Set(notes)].join('; ')}.`]
}

/** Says which results are not compared with the others, and by which measures. */
export function comparisonNotes(
  groups: readonly Pick<SeedGroup<RunEntry>, 'name' | 'runs' | 'measures'>[],
  columns: readonly MeasureColumn[],
): string[] {
  const apart = columns.flatMap((column) => {
    const measured = groups.filter(({ measures }) => measures.has(column.id))
    return apartResults(comparableSets(measured, [column]), [column], ({ name }) => name).map((results) => ({
      results,
      label: columnLabel(column),
    }))
  })
  return [...Map.groupBy(apart, ({ results }) => results)].map(([results, same]) =>
    apartText(
      results,
      same.map(({ label }) => label),
    ),
  )
}

function tableRow(group: SeedGroup, columns: readonly MeasureColumn[], best: Map<string, Set<SeedGroup>>, counts: boolean): TableRow {
  const run = at(group.runs, 0)
  return [
    { value: run.model.name },
    { value: seriesTitle(run.method, treatmentOf(run)) },
    { value: run.nominal },
    { value: group.reached },
    { value: counts ? group.seeds : run.seed },
    ...columns.map(({ id }) => {
      const summary = group.measures.get(id)
      const leaders = best.get(id)
      return {
        value: summary?.mean ?? null,
        spread: summary?.spread ?? null,
        factor: summary?.factor ?? false,
        ...intervalOf(group, id),
        ...markOf(leaders?.has(group) ?? false, leaders?.size ?? 0),
      }
    }),
  ]
}
