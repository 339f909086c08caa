import type { MeasureSummary, ParameterValue } from '../runs/runs.ts'
import { titleOfMethod } from '../titles.ts'
import type { ComparedRun } from './compare.ts'
import type { Table, TableRow } from './table.ts'

/** A measure as a column. Its id is `name` or `name/dataset`. */
export interface MeasureColumn {
  id: string
  name: string
  dataset: string
  unit: string
  lowerIsBetter: boolean
}

/** Runs that differ only in the seed. */
export interface SeedGroup {
  runs: ComparedRun[]
  /** `count` runs have the measure. */
  measures: Map<string, { mean: number; spread: number | null; count: number }>
}

const higherIsBetter = /accuracy|acc_norm|tokens per second|speed|gflop|distinct/i

export function measureId(measure: { name: string; dataset: string }): string {
  return measure.dataset ? `${measure.name}/${measure.dataset}` : measure.name
}

export function isLowerBetter(name: string): boolean {
  return !higherIsBetter.test(name)
}

/** The measures that at least one run has, in order of first appearance. */
export function measureColumns(runs: readonly ComparedRun[]): MeasureColumn[] {
  const columns = new Map<string, MeasureColumn>()
  for (const run of runs) {
    for (const { name, dataset, unit } of run.measures) {
      const id = measureId({ name, dataset })
      if (!columns.has(id)) columns.set(id, { id, name, dataset, unit, lowerIsBetter: isLowerBetter(name) })
    }
  }
  return [...columns.values()]
}

export function measureOf(run: ComparedRun, id: string): MeasureSummary | undefined {
  return run.measures.find((measure) => measureId(measure) === id)
}

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

/** Groups runs that differ only in the seed, with mean and standard deviation (n - 1) of each measure. */
export function groupOverSeeds(runs: readonly ComparedRun[]): SeedGroup[] {
  const groups = new Map<string, ComparedRun[]>()
  for (const run of runs) groups.set(seedlessKey(run), [...(groups.get(seedlessKey(run)) ?? []), run])
  return [...groups.values()].map((members) => ({
    runs: members,
    measures: new Map(measureColumns(members).map(({ id }) => [id, summaryOf(members, id)])),
  }))
}

/** Mean and deviation over several runs; for a single run, its value and standard error. */
function summaryOf(members: readonly ComparedRun[], id: string): { mean: number; spread: number | null; count: number } {
  const found = members.flatMap((run) => measureOf(run, id) ?? [])
  const [only] = found
  if (found.length === 1 && only) return { mean: only.value, spread: only.error ?? null, count: 1 }
  return { ...meanAndSpread(found.map(({ value }) => value)), count: found.length }
}

export function meanAndSpread(values: readonly number[]): { mean: number; spread: number | null } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return { mean, spread: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : null }
}

/** The comparison as a table: baseline first, one row per run (or per seed group), one column per measure (or per entry of `chosen`). */
export function comparisonTable(
  runs: readonly ComparedRun[],
  baseline: string | null,
  overSeeds: boolean,
  chosen?: readonly string[],
): Table {
  const sorted = [...runs].sort((a, b) => Number(b.id === baseline) - Number(a.id === baseline))
  const groups = overSeeds ? groupOverSeeds(sorted) : sorted.map((run) => groupOverSeeds([run])[0] as SeedGroup)
  const columns = measureColumns(sorted).filter(({ id }) => chosen?.includes(id) ?? true)
  const best = new Map(columns.map((column) => [column.id, bestMean(groups, column, baseline)]))
  return {
    columns: [
      { label: 'Model', numeric: false },
      { label: 'Method', numeric: false },
      { label: 'Sparsity', numeric: true },
      { label: 'Reached', numeric: true },
      ...(overSeeds ? [{ label: 'Seeds', numeric: true }] : [{ label: 'Seed', numeric: true }]),
      ...columns.map(({ name, dataset, unit, lowerIsBetter }) => ({
        label: columnLabel(name, dataset, unit),
        numeric: true,
        better: lowerIsBetter ? ('lower' as const) : ('higher' as const),
      })),
    ],
    rows: groups.map((group) => tableRow(group, columns, best, overSeeds)),
  }
}

function tableRow(group: SeedGroup, columns: readonly MeasureColumn[], best: Map<string, number | null>, overSeeds: boolean): TableRow {
  const run = group.runs[0] as ComparedRun
  const reached = group.runs.flatMap(({ reached }) => reached ?? [])
  return [
    { value: run.model.name },
    { value: titleOfMethod(run.method) },
    { value: run.nominal },
    { value: reached.length > 0 ? meanAndSpread(reached).mean : null },
    { value: overSeeds ? group.runs.length : run.seed },
    ...columns.map(({ id }) => {
      const summary = group.measures.get(id)
      return { value: summary?.mean ?? null, spread: summary?.spread ?? null, best: summary !== undefined && summary.mean === best.get(id) }
    }),
  ]
}

function bestMean(groups: readonly SeedGroup[], { id, lowerIsBetter }: MeasureColumn, baseline: string | null): number | null {
  const means = groups.filter(({ runs }) => runs[0]?.id !== baseline).flatMap(({ measures }) => measures.get(id)?.mean ?? [])
  if (means.length < 2) return null
  return means.reduce((top, mean) => (mean < top === lowerIsBetter ? mean : top))
}

function columnLabel(name: string, dataset: string, unit: string): string {
  const title = dataset ? `${name} (${dataset})` : name
  return unit && unit !== name ? `${title} [${unit}]` : title
}

function seedlessKey(run: ComparedRun): string {
  const { seed: _, ...parameters } = run.parameters as Record<string, ParameterValue>
  return JSON.stringify([
    run.model.id,
    run.fingerprint,
    run.method,
    run.nominal,
    Object.entries(parameters).sort(([a], [b]) => (a < b ? -1 : 1)),
  ])
}
