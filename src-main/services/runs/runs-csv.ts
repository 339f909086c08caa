import { measureId } from '#contract/comparison/measure-columns.ts'
import type { Table, TableCell } from '#contract/comparison/table.ts'
import { isLowerBetter } from '#contract/runs/measures.ts'
import type { RunEntry } from '#contract/runs/runs.ts'

/** The columns that every run has: label, whether it is numeric, and the value. */
const fixed: readonly [string, boolean, (run: RunEntry) => TableCell['value']][] = [
  ['id', false, ({ id }) => id],
  ['name', false, ({ name }) => name],
  ['status', false, ({ status }) => status],
  ['experiment', false, ({ experiment }) => experiment?.name ?? null],
  ['model', false, ({ model }) => model.name],
  ['method', false, ({ method }) => method],
  ['seed', true, ({ seed }) => seed],
  ['nominal', true, ({ nominal }) => nominal],
  ['reached', true, ({ reached }) => reached],
  ['seconds', true, ({ seconds }) => seconds],
  ['created', false, ({ createdAt }) => new Date(createdAt).toISOString()],
  ['tags', false, ({ tags }) => tags.join('; ')],
]

/** Returns rows of the history as a table: fixed columns, and then every parameter and measure that occurs. */
export function runsTableOf(runs: readonly RunEntry[]): Table {
  const parameters = [...new Set(runs.flatMap((run) => Object.keys(run.parameters)))].sort()
  const measures = [...new Map(runs.flatMap((run) => run.measures.map((measure) => [measureId(measure), measure] as const)))]
  return {
    columns: [
      ...fixed.map(([label, numeric]) => ({ label, numeric })),
      ...parameters.map((label) => ({ label, numeric: false })),
      ...measures.map(([id, { name, unit }]) => ({
        label: unit ? `${id} [${unit}]` : id,
        numeric: true,
        better: isLowerBetter(name) ? ('lower' as const) : ('higher' as const),
      })),
    ],
    rows: runs.map((run) => {
      const values = new Map(run.measures.map((measure) => [measureId(measure), measure.value]))
      return [
        ...fixed.map(([, , read]) => read(run)),
        ...parameters.map((name) => run.parameters[name] ?? null),
        ...measures.map(([id]) => values.get(id) ?? null),
      ].map((value) => ({ value }))
    }),
  }
}
