import { measureId } from '#contract/comparison/measure-columns.ts'
import type { Table, TableCell } from '#contract/comparison/table.ts'
import { isLowerBetter } from '#contract/runs/measures.ts'
import type { RunEntry } from '#contract/runs/runs.ts'

/** History rows as a table: fixed columns, then every parameter and measure that occurs. */
export function runsTableOf(runs: readonly RunEntry[]): Table {
  const parameters = [...new Set(runs.flatMap((run) => Object.keys(run.parameters)))].sort()
  const measures = [...new Map(runs.flatMap((run) => run.measures.map((measure) => [measureId(measure), measure] as const)))]
  return {
    columns: [
      ...['id', 'name', 'status', 'experiment', 'model', 'method'].map((label) => ({ label, numeric: false })),
      ...['seed', 'nominal', 'reached', 'seconds'].map((label) => ({ label, numeric: true })),
      ...['created', 'tags'].map((label) => ({ label, numeric: false })),
      ...parameters.map((label) => ({ label, numeric: false })),
      ...measures.map(([id, { name, unit }]) => ({
        label: unit ? `${id} [${unit}]` : id,
        numeric: true,
        better: isLowerBetter(name) ? ('lower' as const) : ('higher' as const),
      })),
    ],
    rows: runs.map((run) =>
      rowOf(
        run,
        parameters,
        measures.map(([id]) => id),
      ),
    ),
  }
}

function rowOf(run: RunEntry, parameters: readonly string[], measures: readonly string[]): TableCell[] {
  const values = new Map(run.measures.map((measure) => [measureId(measure), measure.value]))
  return [
    ...[
      run.id,
      run.name,
      run.status,
      run.experiment?.name ?? null,
      run.model.name,
      run.method,
      run.seed,
      run.nominal,
      run.reached,
      run.seconds,
    ],
    new Date(run.createdAt).toISOString(),
    run.tags.join('; '),
    ...parameters.map((name) => run.parameters[name] ?? null),
    ...measures.map((id) => values.get(id) ?? null),
  ].map((value) => ({ value }))
}
