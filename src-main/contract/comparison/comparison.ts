import type { ComparedRun } from './compare.ts'
import { columnLabel, type MeasureColumn, measureColumns } from './measure-columns.ts'
import { groupEach, groupOverSeeds, hasSeveralSeeds, type SeedGroup } from './seeds.ts'
import { seriesTitle, treatmentOf } from './series.ts'
import type { Table, TableRow } from './table.ts'

/** Difference from the baseline, relative difference (null if the baseline is 0), and whether it is an improvement. */
export function deltaOf(
  value: number,
  baseline: number,
  lowerIsBetter: boolean,
): { absolute: number; relative: number | null; better: boolean | null } {
  const absolute = value - baseline
  const better = absolute === 0 ? null : absolute < 0 === lowerIsBetter
  return { absolute, relative: baseline === 0 ? null : absolute / Math.abs(baseline), better }
}

/** The Pareto front, by rising x. Smaller is better on both axes; negate an axis where larger is better. */
export function paretoFront<P extends { x: number; y: number }>(points: readonly P[]): P[] {
  const front: P[] = []
  for (const point of [...points].sort((a, b) => a.x - b.x || a.y - b.y)) {
    const last = front.at(-1)
    if (!last || point.y < last.y) front.push(point)
  }
  return front
}

/** The groups to compare: the baseline first, then one group per run, or one per set of seeds. */
export function comparedGroups(runs: readonly ComparedRun[], baseline: string | null, overSeeds: boolean): SeedGroup[] {
  const sorted = [...runs].sort((a, b) => Number(b.id === baseline) - Number(a.id === baseline))
  return overSeeds ? groupOverSeeds(sorted) : groupEach(sorted)
}

/** The comparison as a table: one row per compared group, one column per measure (or per entry of `chosen`). */
export function comparisonTable(
  runs: readonly ComparedRun[],
  baseline: string | null,
  overSeeds: boolean,
  chosen?: readonly string[],
): Table {
  const groups = comparedGroups(runs, baseline, overSeeds)
  const counts = overSeeds && hasSeveralSeeds(runs)
  const columns = measureColumns(groups.flatMap((group) => group.runs)).filter(({ id }) => chosen?.includes(id) ?? true)
  const best = new Map(columns.map((column) => [column.id, bestMean(groups, column, baseline)]))
  return {
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

function tableRow(
  { runs, seeds, reached, measures }: SeedGroup,
  columns: readonly MeasureColumn[],
  best: Map<string, number | null>,
  counts: boolean,
): TableRow {
  const run = runs[0] as ComparedRun
  return [
    { value: run.model.name },
    { value: seriesTitle(run.method, treatmentOf(run)) },
    { value: run.nominal },
    { value: reached },
    { value: counts ? seeds : run.seed },
    ...columns.map(({ id }) => {
      const summary = measures.get(id)
      return { value: summary?.mean ?? null, spread: summary?.spread ?? null, best: summary !== undefined && summary.mean === best.get(id) }
    }),
  ]
}

function bestMean(groups: readonly SeedGroup[], { id, lowerIsBetter }: MeasureColumn, baseline: string | null): number | null {
  const means = groups.filter(({ runs }) => runs[0]?.id !== baseline).flatMap(({ measures }) => measures.get(id)?.mean ?? [])
  if (means.length < 2) return null
  return means.reduce((top, mean) => (mean < top === lowerIsBetter ? mean : top))
}
