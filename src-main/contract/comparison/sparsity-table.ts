import { at } from '../at.ts'
import { parameterText, parameterTitle } from '../runs/parameter-titles.ts'
import type { ParameterValue, RunEntry } from '../runs/runs.ts'
import { denseMethod } from '../titles.ts'
import { upperFirst } from '../words.ts'
import { leadersOf, markOf, ranksOf } from './best-results.ts'
import { shareText } from './cell-text.ts'
import { bitsMeasure, comparableSets } from './comparable.ts'
import { comparedText, comparisonNotes, fewerWindowsNotes, seedsText } from './comparison-table.ts'
import { columnLabel, isTaskMeasure, type MeasureColumn, measureColumns } from './measure-columns.ts'
import { groupOverSeeds, hasSeveralModels, intervalOf, type SeedGroup } from './seeds.ts'
import { methodOrder, seriesId, seriesTitle, treatmentOf } from './series.ts'
import { meanOf } from './statistics.ts'
import type { Table, TableCell } from './table.ts'

/** Runs compete at a sparsity if their reached sparsity differs from it by at most this much. */
export const sparsityTolerance = 0.01

/** Explains bold and ± below tables of sparsities. */
const competitionText = `Bold: best among results within ${sparsityTolerance * 100} percentage point of the sparsity, with all that do not differ clearly from it (95 % interval). ${seedsText}`

/** Explains ranks. */
const rankText = 'Rank: 1, and one more for each result that is clearly better; the mean over all sparsities where results compete.'

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

/** Returns the mean rank of each row that competes at every sparsity where others of its model do. */
function meanRanks(rows: readonly Row[], groups: readonly Group<RunEntry>[], column: MeasureColumn): Map<Row, number> {
  const contests = rivalsOfEach(groups, column).filter((own) => own.length > 1)
  const ranks = new Map(contests.flatMap((own) => [...ranksOf(own, column)]))
  const modelOf = (own: readonly Group<RunEntry>[]) => own[0]?.runs[0]?.model.id
  const ranked = rows.flatMap((row): [Row, number][] => {
    const needed = new Set(contests.filter((own) => modelOf(own) === modelOf(row.groups)).map((own) => nominalOf(at(own, 0)))).size
    const own = row.groups.flatMap((group) => ranks.get(group) ?? [])
    return own.length > 0 && own.length === needed ? [[row, Number(meanOf(own).toFixed(2))]] : []
  })
  return new Map(ranked)
}

/**
 * Makes a table of one measure as in papers: a row per method, a column per sparsity, the mean with its deviation over seeds, and the best
 * of each column marked. A result that misses the sparsity by more than the tolerance does not compete, and shows its reached sparsity.
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
  const rows = [...Map.groupBy(groups, rowKey).values()].flatMap((row) => splitRow(row, titleOf))
  const manyModels = hasSeveralModels(groups.flatMap(({ runs: own }) => own))
  const sparsities = [...new Set(groups.map(nominalOf))].sort((a, b) => a - b)
  const better = column.lowerIsBetter ? ('lower' as const) : ('higher' as const)
  const ranks = meanRanks(rows, groups, column)
  const hasRanks = ranks.size > 1
  return {
    caption: `${upperFirst(columnLabel(column))} by method and sparsity. ${comparedText(groups, [column])}`,
    notes: [competitionText, ...(hasRanks ? [rankText] : []), ...comparisonNotes(groups, [column]), ...fewerWindowsNotes(groups)],
    columns: [
      ...(manyModels ? [{ label: 'Model', numeric: false }] : []),
      { label: 'Method', numeric: false },
      ...sparsities.map((sparsity) => ({ label: shareText(sparsity), numeric: true, better })),
      ...(hasRanks ? [{ label: 'Rank', numeric: true, better: 'lower' as const }] : []),
    ],
    rows: rows.map((row) => [
      ...(manyModels ? [{ value: row.groups[0]?.runs[0]?.model.name ?? '' }] : []),
      { value: row.title },
      ...sparsities.map((sparsity) => {
        const found = row.groups.find((group) => nominalOf(group) === sparsity)
        return found ? cellOf(found, column, best.get(found) ?? 0) : { value: null }
      }),
      ...(hasRanks ? [{ value: ranks.get(row) ?? null }] : []),
    ]),
  }
}

/** `leaders` is how many share the first place with this group; 0 if it is not one of them. */
function cellOf(group: Group<RunEntry>, { id }: MeasureColumn, leaders: number): TableCell {
  const { mean = null, spread = null, factor = false } = group.measures.get(id) ?? {}
  const note = competes(group) || isDense(group) ? {} : { note: `at ${shareText(group.reached ?? 0)}` }
  return { value: mean, spread, factor, ...intervalOf(group, id), ...markOf(leaders > 0, leaders), ...note }
}

/** Sorts the dense model first, and then methods in the order of their titles. */
const rankOf = ({ method }: RunEntry): number => (method === denseMethod ? -1 : methodOrder.indexOf(method))

const isDense = ({ runs: [run] }: Group<RunEntry>): boolean => run?.method === denseMethod
const nominalOf = ({ runs: [run] }: Group<RunEntry>): number => run?.nominal ?? 0

function competes(group: Group<RunEntry>): boolean {
  const { reached } = group
  return !isDense(group) && reached !== null && Math.abs(reached - nominalOf(group)) <= sparsityTolerance + 1e-9
}

function rowKey({ runs: [run] }: Group<RunEntry>): string {
  return run ? JSON.stringify([run.model.id, run.fingerprint, seriesId(run.method, treatmentOf(run))]) : ''
}

interface Row {
  title: string
  groups: Group<RunEntry>[]
}

/** Splits the results of one method into rows by the options that differ at the same sparsity. The rows' titles show these options. */
function splitRow(groups: Group<RunEntry>[], titleOf: OptionTitle): Row[] {
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
  return [...Map.groupBy(groups, textOf)].map(([text, own]) => ({ title: text ? `${title}, ${text}` : title, groups: own }))
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
