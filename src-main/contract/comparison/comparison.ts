import { at } from '../at.ts'
import { speedUpOf } from '../runs/time/speed.ts'
import { leastChange } from './change.ts'
import type { ComparedRun } from './compare.ts'
import { columnLabel, type MeasureColumn, measureColumns } from './measure-columns.ts'
import { isPerToken, tokenGroups } from './same-tokens.ts'
import { groupEach, groupOverSeeds, hasSeveralSeeds, type SeedGroup } from './seeds.ts'
import { seriesTitle, treatmentOf } from './series.ts'
import type { Table, TableRow } from './table.ts'

/** Returns the difference from the baseline, absolute and relative (null if the baseline is 0), and whether it is an improvement. */
export function deltaOf(
  value: number,
  baseline: number,
  lowerIsBetter: boolean,
): { absolute: number; relative: number | null; better: boolean | null } {
  const absolute = value - baseline
  const relative = baseline === 0 ? null : absolute / Math.abs(baseline)
  const isSame = absolute === 0 || (relative !== null && Math.abs(relative) < leastChange)
  return { absolute, relative, better: isSame ? null : absolute < 0 === lowerIsBetter }
}

/**
 * Returns the Pareto front, by rising x. Smaller is better on both axes; negate an axis on which larger is better. If two points of the
 * front differ by at most `tolerance` on x, only the one that is better on y is kept.
 */
export function paretoFront<P extends { x: number; y: number }>(points: readonly P[], tolerance = 0): P[] {
  const front: P[] = []
  for (const point of [...points].sort((a, b) => a.x - b.x || a.y - b.y)) {
    const last = front.at(-1)
    if (!last || point.y < last.y) front.push(point)
  }
  const kept: P[] = []
  for (const point of front.reverse()) {
    const next = kept.at(-1)
    if (!next || next.x - point.x > tolerance) kept.push(point)
  }
  return kept.reverse()
}

/** Returns the groups to compare, the baseline first. Each run is a group, or with `overSeeds` all runs that differ only in the seed. */
export function comparedGroups(runs: readonly ComparedRun[], baseline: string | null, overSeeds: boolean): SeedGroup[] {
  const sorted = [...runs].sort((a, b) => Number(b.id === baseline) - Number(a.id === baseline))
  return overSeeds ? groupOverSeeds(sorted) : groupEach(sorted)
}

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
  const tokens = tokenGroups(runs)
  const rivals = groups.filter((group) => at(group.runs, 0).id !== baseline)
  const best = new Map(columns.map((column) => [column.id, bestOf(rivals, column, tokens)]))
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
      return { value: summary?.mean ?? null, spread: summary?.spread ?? null, best: best.get(id)?.has(group) ?? false }
    }),
  ]
}

/**
 * Returns the best results by a measure. Perplexities are compared only within each group of `tokens`. Times are compared by their speed-up
 * if all results have one, because changes of times are derived from it. A result without a rival is not the best.
 */
export function bestOf<Result extends Pick<SeedGroup, 'runs' | 'measures'>>(
  results: readonly Result[],
  column: MeasureColumn,
  tokens: ReturnType<typeof tokenGroups>,
): Set<Result> {
  const { id, name, lowerIsBetter } = column
  const measured = results.filter(({ measures }) => measures.has(id))
  const pace = speedUpOf(column) ?? ''
  const isPaced = measured.every(({ measures }) => measures.has(pace))
  const [by, sign] = isPaced ? [pace, -1] : [id, lowerIsBetter ? 1 : -1]
  const levelOf = ({ measures }: Result) => (measures.get(by)?.mean ?? Number.NaN) * sign
  const rivals = Map.groupBy(measured, ({ runs }) => (isPerToken(name) ? tokens.get(at(runs, 0).model.id) : ''))
  const best = [...rivals.values()].flatMap((own) => {
    const top = Math.min(...own.map(levelOf))
    return own.length > 1 ? own.filter((result) => levelOf(result) === top) : []
  })
  return new Set(best)
}
