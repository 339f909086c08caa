import { at } from '../at.ts'
import { hasSeveralModels } from '../runs/model-names.ts'
import { parameterText, parameterTitle } from '../runs/parameter-titles.ts'
import type { ParameterValue, RunEntry } from '../runs/runs.ts'
import { denseMethod } from '../titles.ts'
import { upperFirst } from '../words.ts'
import { isNear, leadersOf, markOf, ranksOf, sparsityTolerance } from './best-results.ts'
import { shareText } from './cell-text.ts'
import { bitsMeasure, comparableSets, whyResultsApart } from './comparable.ts'
import {
  comparisonNotes,
  equalSeedsNotes,
  fewerWindowsNotes,
  meansTexts,
  modelsText,
  shapesText,
  windowsNotes,
} from './comparison-table.ts'
import { columnLabel, isTaskMeasure, type MeasureColumn, measureColumns, subjectTitle } from './measure-columns.ts'
import { groupOverSeeds, intervalOf, type SeedGroup, seedlessName } from './seeds.ts'
import { methodOrder, seriesId, seriesTitle, treatmentOf } from './series.ts'
import { meanOf } from './statistics.ts'
import type { Table, TableCell } from './table.ts'

/** Explains bold in tables of sparsities. */
const boldText = `Bold: the best within ${sparsityTolerance * 100} percentage point of the sparsity, with all that do not differ clearly from it (paired 95 % intervals); a sole result is not marked.`

/** Returns the title of a method's option, or its name if the title is unknown. */
export type OptionTitle = (method: string, option: string) => string

type Group<Run extends RunEntry> = SeedGroup<Run>

export interface NamedTable {
  /** The measure's id. */
  id: string
  title: string
  table: Table
}

/** Makes a table for each measure of quality, but none for sizes and times. Empty if no run pruned a model. */
export function sparsityTables(runs: readonly RunEntry[], titleOf?: OptionTitle): NamedTable[] {
  const pruned = runs.filter(({ method, nominal }) => nominal !== null || method === denseMethod)
  if (pruned.every(({ method }) => method === denseMethod)) return []
  return measureColumns(pruned)
    .filter(({ name }) => name === 'perplexity' || name === bitsMeasure || name.startsWith('accuracy') || isTaskMeasure(name))
    .map((column) => ({ id: column.id, title: columnLabel(column), table: sparsityTable(pruned, column, titleOf) }))
}

/**
 * Finds, for each model and sparsity, the group with the best mean and all that do not differ clearly from it, and how many competed: the
 * best first, by rising sparsity. Groups that cannot be compared compete apart.
 */
export function bestOfEach<Run extends RunEntry>(
  groups: readonly Group<Run>[],
  column: MeasureColumn,
): { best: Group<Run>[]; rivals: number }[] {
  return rivalsOfEach(groups, column)
    .map((own) => ({ best: leadersOf(own, column), rivals: own.length }))
    .sort((a, b) => nominalOf(at(a.best, 0)) - nominalOf(at(b.best, 0)))
}

/** Divides the groups that compete into those of each model and sparsity that can be compared. */
function rivalsOfEach<Run extends RunEntry>(groups: readonly Group<Run>[], column: MeasureColumn): Group<Run>[][] {
  const competing = groups.filter((group) => competes(group) && group.measures.has(column.id))
  const each = Map.groupBy(competing, (group) => `${nominalOf(group)} ${group.runs[0]?.model.id}`)
  return [...each.values()].flatMap((own) => comparableSets(own, [column]))
}

/**
 * Returns the mean rank of each row over the sparsities that all rows of its model and windows reach and are compared at, and these
 * sparsities. Empty if there are none.
 */
function meanRanks(rows: readonly Row[], groups: readonly Group<RunEntry>[], column: MeasureColumn) {
  const modelOf = (own: readonly Group<RunEntry>[]) => own[0]?.runs[0]?.model.id
  const pruned = rows.filter(({ groups: own }) => own.some((group) => !isDense(group)))
  const contests = rivalsOfEach(groups, column).filter((own) => {
    const { set } = pruned.find((row) => row.groups.includes(at(own, 0))) ?? {}
    return own.length > 1 && own.length === pruned.filter((row) => row.set === set && modelOf(row.groups) === modelOf(own)).length
  })
  const ranks = new Map(contests.flatMap((own) => [...ranksOf(own, column)]))
  const ranked = rows.flatMap((row): [Row, number][] => {
    const own = row.groups.flatMap((group) => ranks.get(group) ?? [])
    return own.length > 0 ? [[row, Number(meanOf(own).toFixed(2))]] : []
  })
  return { ranks: new Map(ranked), sparsities: [...new Set(contests.map((own) => nominalOf(at(own, 0))))].sort((a, b) => a - b) }
}

/** Explains ranks, or says why there are none: results at other sparsities have no common order. */
function rankNotes(ranked: readonly number[], groups: readonly Group<RunEntry>[]): string[] {
  const missed = groups.filter((group) => !isDense(group) && !competes(group))
  const reasons = missed.map((group) => `${seedlessName(group.name)} reaches ${shareText(group.reached ?? 0)}`)
  const apart = reasons.length > 0 ? ` Not ranked: ${reasons.join('; ')}.` : ''
  if (ranked.length === 0) return reasons.length > 0 ? [apart.trim()] : []
  const shares = new Intl.ListFormat('en-GB').format(ranked.map(shareText))
  return [`Rank: 1, and one more for each result that is clearly better; the mean over what all reach (${shares}).${apart}`]
}

/**
 * Makes a table of one measure as in papers: a row per method, a column per sparsity, the mean with its deviation over seeds, and the best
 * of each column marked. A row only has results that can be compared with each other; others of its method have a row of their own. A
 * result that misses the sparsity by more than the tolerance does not compete, and shows its reached sparsity.
 */
export function sparsityTable(runs: readonly RunEntry[], column: MeasureColumn, titleOf: OptionTitle = (_, option) => option): Table {
  const groups = groupOverSeeds([...runs].sort((a, b) => rankOf(a) - rankOf(b))).filter(
    (group) => group.measures.has(column.id) && (isDense(group) || group.reached !== null),
  )
  const best = new Map(
    bestOfEach(groups, column).flatMap(({ best: leaders, rivals }) =>
      rivals > 1 ? leaders.map((group) => [group, leaders.length] as const) : [],
    ),
  )
  const windows = windowsNotes(groups, column)
  const sets = comparableSets(groups, [column])
  const rows = sets.flatMap((members, set) => {
    const [first] = members
    const note = first && (windows.get(first) ?? whyOtherSet(first, sets.slice(0, set), column))
    return [...Map.groupBy(members, rowKey).values()].flatMap((row) => splitRow(row, set, note, titleOf))
  })
  const manyModels = hasSeveralModels(groups.flatMap(({ runs: own }) => own))
  const sparsities = [...new Set(groups.map(nominalOf))].sort((a, b) => a - b)
  const better = column.lowerIsBetter ? ('lower' as const) : ('higher' as const)
  const { ranks, sparsities: ranked } = meanRanks(rows, groups, column)
  const hasRanks = ranks.size > 1
  const counts = countsOf(groups, column)
  const most = Math.max(...counts.values())
  return {
    caption: [captionOf(groups, column), ...meansTexts(groups, [column]), ...(best.size > 0 ? [boldText] : [])].join(' '),
    notes: [
      ...(best.size > 0 ? rankNotes(ranked, groups) : []),
      ...comparisonNotes(groups, [column]),
      ...equalSeedsNotes(groups),
      ...fewerWindowsNotes(groups),
    ],
    alike: 'columns',
    columns: [
      ...(manyModels ? [{ label: 'Model', numeric: false }] : []),
      { label: 'Method', numeric: false },
      ...sparsities.map((sparsity) => ({ label: shareText(sparsity), numeric: true, better })),
      ...(hasRanks ? [{ label: 'Rank', numeric: true, better: 'lower' as const, apart: true }] : []),
    ],
    rows: rows.map((row) => [
      ...(manyModels ? [{ value: row.groups[0]?.model ?? '' }] : []),
      { value: row.title },
      ...sparsities.map((sparsity) => {
        const found = row.groups.find((group) => nominalOf(group) === sparsity)
        return found ? cellOf(found, column, { leaders: best.get(found) ?? 0, count: counts.get(found), most }) : { value: null }
      }),
      ...(hasRanks ? [{ value: ranks.get(row) ?? null }] : []),
    ]),
  }
}

/** `Perplexity of Qwen3 on Prose (8 windows of 256 tokens) by method and sparsity; lower is better.` */
function captionOf(groups: readonly Group<RunEntry>[], column: MeasureColumn): string {
  const { name, dataset, lowerIsBetter } = column
  const shapes = shapesText(groups, column)
  const on = dataset ? ` on ${subjectTitle(dataset)}` : ''
  const better = lowerIsBetter ? 'lower' : 'higher'
  return `${upperFirst(name)} of ${modelsText(groups)}${on}${shapes && ` (${shapes})`} by method and sparsity; ${better} is better.`
}

/** The numbers of results behind the means of pruned models, if they differ: equal seeds are one, and a run may have failed. */
function countsOf(groups: readonly Group<RunEntry>[], { id }: MeasureColumn): Map<Group<RunEntry>, number> {
  const counts = groups.flatMap((group) => (isDense(group) ? [] : [[group, group.measures.get(id)?.count ?? 0] as const]))
  return new Set(counts.map(([, count]) => count)).size > 1 ? new Map(counts) : new Map()
}

interface CellFacts {
  /** How many share the first place with this group; 0 if it is not one of them. */
  readonly leaders: number
  readonly count: number | undefined
  /** The largest count of the table. */
  readonly most: number
}

function cellOf(group: Group<RunEntry>, { id }: MeasureColumn, { leaders, count, most }: CellFacts): TableCell {
  const { mean = null, spread = null, factor = false } = group.measures.get(id) ?? {}
  const notes = [
    ...(competes(group) || isDense(group) ? [] : [`at ${shareText(group.reached ?? 0)}`]),
    ...(count !== undefined && count < most ? [`n = ${count}`] : []),
  ]
  return {
    value: mean,
    spread,
    factor,
    ...intervalOf(group, id),
    ...(count === undefined ? {} : { count }),
    ...markOf(leaders),
    ...(notes.length > 0 ? { note: notes.join(', ') } : {}),
  }
}

/** Sorts the dense model first, and then methods in the order of their titles. */
const rankOf = ({ method }: RunEntry): number => (method === denseMethod ? -1 : methodOrder.indexOf(method))

const isDense = ({ runs: [run] }: Group<RunEntry>): boolean => run?.method === denseMethod
const nominalOf = ({ runs: [run] }: Group<RunEntry>): number => run?.nominal ?? 0

function competes(group: Group<RunEntry>): boolean {
  const { reached } = group
  return !isDense(group) && reached !== null && isNear(reached, nominalOf(group))
}

function rowKey({ runs: [run] }: Group<RunEntry>): string {
  return run ? JSON.stringify([run.model.id, run.fingerprint, seriesId(run.method, treatmentOf(run))]) : ''
}

interface Row {
  title: string
  groups: Group<RunEntry>[]
  /** The number of the set whose results can be compared. */
  set: number
}

/** Why the results of a set are apart from those of the same model in an earlier set. */
function whyOtherSet(first: Group<RunEntry>, earlier: readonly Group<RunEntry>[][], column: MeasureColumn): string | undefined {
  const same = earlier.flat().find(({ runs: [run] }) => run?.model.id === first.runs[0]?.model.id)
  return (same && whyResultsApart(first, same, [column])) ?? undefined
}

/**
 * Splits the results of one method into rows by the options that differ at the same sparsity. The rows' titles show these options, and what
 * sets the results apart from others.
 */
function splitRow(groups: Group<RunEntry>[], set: number, note: string | undefined, titleOf: OptionTitle): Row[] {
  const [run] = groups[0]?.runs ?? []
  if (!run) return []
  const names = distinguishing(groups, [...new Set([...Map.groupBy(groups, nominalOf).values()].flatMap(differingOptions))])
  const textOf = (group: Group<RunEntry>) =>
    names
      .map(
        (name) =>
          `${withinText(parameterTitle(name) ?? titleOf(run.method, name))} ${parameterText(name, group.runs[0]?.parameters[name])}`,
      )
      .join(', ')
  const title = seriesTitle(run.method, treatmentOf(run))
  return [...Map.groupBy(groups, textOf)].map(([text, own]) => ({
    title: `${text ? `${title}, ${text}` : title}${note === undefined ? '' : ` (${note})`}`,
    groups: own,
    set,
  }))
}

/** Writes a title for use after a comma: `Stage 1 windows` then begins in lower case, `MLP width` does not. */
const withinText = (title: string): string => title.replace(/^[A-Z](?![A-Z])/, (letter) => letter.toLowerCase())

/** Drops options that some results lack, such as the calibration of a dense model, if the other options distinguish the results. */
function distinguishing(groups: readonly Group<RunEntry>[], names: string[]): string[] {
  const of = ({ runs: [run] }: Group<RunEntry>, name: string) => run?.parameters[name]
  const kinds = (some: string[]) => new Set(groups.map((group) => JSON.stringify(some.map((name) => of(group, name) ?? null)))).size
  const common = names.filter((name) => name === 'weights' || groups.every((group) => of(group, name) !== undefined))
  return kinds(common) === kinds(names) ? common : names
}

function differingOptions(groups: readonly Group<RunEntry>[]): string[] {
  const parameters = groups.flatMap(({ runs: [run] }) => (run ? [run.parameters] : []))
  const names = new Set(parameters.flatMap((own) => Object.keys(own)))
  const differs = (name: string) => new Set<ParameterValue | undefined>(parameters.map((own) => own[name])).size > 1
  return [...names].filter((name) => name !== 'seed' && differs(name))
}
