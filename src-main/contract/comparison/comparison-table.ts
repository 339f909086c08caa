import { at } from '../at.ts'
import { type UsedData, windowsText } from '../data/used-data.ts'
import type { MeasuredOn } from '../runs/measures.ts'
import type { MeasureSummary, RunEntry } from '../runs/runs.ts'
import { titleOfMethod } from '../titles.ts'
import { plural } from '../words.ts'
import { bestOf, markOf, sparsityTolerance } from './best-results.ts'
import { apartResults, apartText, comparableSets } from './comparable.ts'
import type { ComparedRun } from './compared-run.ts'
import { columnLabel, type MeasureColumn, measureColumns, measureOf } from './measure-columns.ts'
import {
  groupEach,
  groupOverSeeds,
  hasSeveralSeeds,
  intervalOf,
  type MeasureOverSeeds,
  type SeedGroup,
  seedlessName,
  widest,
} from './seeds.ts'
import { seriesTitle, treatmentOf } from './series.ts'
import type { Table, TableRow } from './table.ts'

/** Returns the groups to compare, the baseline first. Each run is a group, or with `overSeeds` all runs that differ only in the seed. */
export function comparedGroups(runs: readonly ComparedRun[], baseline: string | null, overSeeds: boolean): SeedGroup[] {
  const sorted = [...runs].sort((a, b) => Number(b.id === baseline) - Number(a.id === baseline))
  return overSeeds ? groupOverSeeds(sorted) : groupEach(sorted)
}

/** Explains the best marks of tables. */
const boldText = `Bold: at each sparsity (within ${sparsityTolerance * 100} percentage point), the best of those that can be compared, with all that do not differ clearly from it (paired 95 % intervals); sizes and results alone at their sparsity are not marked.`

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
  const windows = new Map(columns.map((column) => [column.id, windowsNotes(groups, column)]))
  const hasBest = [...best.values()].some((leaders) => leaders.size > 0)
  return {
    caption: [comparedText(groups, columns), ...meansTexts(groups, columns), ...(hasBest ? [boldText] : [])].join(' '),
    notes: [...comparisonNotes(groups, columns), ...equalSeedsNotes(groups), ...fewerWindowsNotes(groups)],
    alike: 'columns',
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
    rows: groups.map((group) => tableRow(group, columns, { best, windows, counts })),
  }
}

type Seeded = Pick<SeedGroup<RunEntry>, 'name' | 'model' | 'runs' | 'measures' | 'seeds' | 'equalSeeds'>

/** Says what is compared: the models, and the windows or questions of each measure. */
export function comparedText(groups: readonly Seeded[], columns: readonly MeasureColumn[]): string {
  const measured = columns.map((column) => ({ label: columnLabel(column), shapes: shapesText(groups, column) }))
  const known = [...Map.groupBy(measured, ({ shapes }) => shapes)].filter(([shapes]) => shapes !== '')
  const texts = known.map(([shapes, own]) => `${list.format(own.map(({ label }) => label))} on ${shapes}`)
  return `Results of ${modelsText(groups)}${texts.length > 0 ? `: ${texts.join('; ')}` : ''}.`
}

const list = new Intl.ListFormat('en-GB')

export const modelsText = (groups: readonly Seeded[]): string => list.format([...new Set(groups.map(({ model }) => model))])

/** `8 windows of 256 tokens without BOS`; several if results were taken on different ones, and nothing for sizes and times. */
export function shapesText(groups: readonly Seeded[], { id }: MeasureColumn): string {
  return list.format(new Set(groups.flatMap(({ runs }) => runs.flatMap((run) => shapeText(measureOf(run, id)) ?? []))))
}

/**
 * What each result was measured on, if a column has results of several windows: `on 6 windows of 256 tokens`. Such numbers cannot be
 * compared although they have one heading.
 */
export function windowsNotes<Group extends Pick<Seeded, 'runs'>>(groups: readonly Group[], { id }: { id: string }): Map<Group, string> {
  const taken = groups.flatMap((group) => {
    const [on] = group.runs.flatMap((run) => measureOf(run, id)?.on ?? [])
    return on ? [[group, on] as const] : []
  })
  const several = (texts: string[]) => new Set(texts).size > 1
  if (!several(taken.map(([, on]) => onText(on)))) return new Map()
  const write = several(taken.map(([, on]) => beginningOf(on))) ? onText : countText
  return new Map(taken.map(([group, on]) => [group, `on ${write(on)}`]))
}

/** The caption of a chart of some measures: what is compared, and over how many seeds. */
export function chartCaption(groups: readonly Seeded[], columns: readonly MeasureColumn[]): string {
  const means = overSeedsText(groups.flatMap(({ measures }) => columns.flatMap(({ id }) => measures.get(id) ?? [])))
  return [comparedText(groups, columns), ...(means === null ? [] : [`${means}.`])].join(' ')
}

/** `Geometric means over 3 seeds`; null if there are no means. */
function overSeedsText(cells: readonly MeasureOverSeeds[]): string | null {
  const means = cells.filter(({ count }) => count > 1)
  if (means.length === 0) return null
  const most = Math.max(...means.map(({ count }) => count))
  const seeds = `${means.every(({ count }) => count === most) ? '' : 'up to '}${plural(most, 'seed')}`
  const kinds = new Set(means.map(({ factor }) => factor))
  const kind = kinds.size > 1 ? 'Means, geometric for perplexities,' : kinds.has(true) ? 'Geometric means' : 'Means'
  return `${kind} over ${seeds}`
}

/** Explains the means and brackets of a table that has them. */
export function meansTexts(groups: readonly Seeded[], columns: readonly MeasureColumn[]): string[] {
  const cells = groups.flatMap((group) =>
    columns.flatMap(({ id }) => {
      const found = group.measures.get(id)
      return found ? [{ ...found, hasInterval: intervalOf(group, id) !== null }] : []
    }),
  )
  const timed = cells.some(({ count, spread, hasInterval }) => count === 1 && spread !== null && !hasInterval)
  const isUnbound = cells.some(({ count, factor, spread, hasInterval }) => count > 1 && factor && spread !== null && !hasInterval)
  const signs = [
    ...(isUnbound ? [`×/÷: the deviation over seeds, where the interval is wider than a factor of ${widest} up and down.`] : []),
    ...(timed ? ['±: how far repeated timings differ.'] : []),
  ]
  const ofSingle = cells.some(({ count, hasInterval }) => count === 1 && hasInterval)
  const ofMeans = cells.some(({ count, hasInterval }) => count > 1 && hasInterval)
  const over = ofMeans ? ', over seeds where there are several, else over windows or questions' : ' over windows or questions'
  const means = overSeedsText(cells)
  return [
    ...(means === null ? [] : [ofMeans && !ofSingle ? `${means}, with the 95 % interval in brackets.` : `${means}.`]),
    ...(ofSingle ? [`Brackets: the 95 % interval${over}.`] : []),
    ...signs,
  ]
}

/** Says which results count once although they were computed with several seeds. */
export function equalSeedsNotes(groups: readonly Seeded[]): string[] {
  const equal = groups.filter(({ equalSeeds }) => equalSeeds > 0)
  if (equal.length === 0) return []
  const nominal = ({ runs }: Seeded) => runs[0]?.nominal ?? 0
  const names = equal.toSorted((a, b) => nominal(a) - nominal(b)).map(({ name }) => seedlessName(name))
  return [`All seeds led to the same model, so they count as one result (n = 1): ${names.join('; ')}.`]
}

/** `8 windows of 256 tokens without BOS`, or `100 questions`; null if it is not known, or of no text. */
export const shapeText = (measure: MeasureSummary | undefined): string | null => (measure?.on ? onText(measure.on) : null)

const onText = (on: MeasuredOn): string => `${countText(on)}${beginningOf(on)}`

const countText = ({ count, sequenceLength }: MeasuredOn): string =>
  sequenceLength === undefined ? plural(count, 'question') : windowsText(count, sequenceLength)

/** How windows begin; empty for questions. */
const beginningOf = ({ sequenceLength, beginToken }: MeasuredOn): string =>
  sequenceLength === undefined ? '' : beginToken ? ' that begin with BOS' : ' without BOS'

/** Names the methods that looked at fewer calibration windows than requested, with both counts: `BlockPruner (1 of 8)`. */
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

interface Marks {
  best: ReadonlyMap<string, ReadonlyMap<SeedGroup, number>>
  windows: ReadonlyMap<string, ReadonlyMap<SeedGroup, string>>
  counts: boolean
}

function tableRow(group: SeedGroup, columns: readonly MeasureColumn[], { best, windows, counts }: Marks): TableRow {
  const run = at(group.runs, 0)
  return [
    { value: group.model },
    { value: seriesTitle(run.method, treatmentOf(run)) },
    { value: run.nominal },
    { value: group.reached },
    { value: counts ? group.seeds : run.seed },
    ...columns.map(({ id }) => {
      const summary = group.measures.get(id)
      const note = windows.get(id)?.get(group)
      return {
        value: summary?.mean ?? null,
        spread: summary?.spread ?? null,
        factor: summary?.factor ?? false,
        ...intervalOf(group, id),
        ...markOf(best.get(id)?.get(group) ?? 0),
        ...(note === undefined ? {} : { note }),
      }
    }),
  ]
}
