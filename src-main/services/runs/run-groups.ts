import { bitsMeasure, comparableSets, isPerToken } from '#contract/comparison/comparable.ts'
import { type MeasureColumn, measureColumns, measureId, measureOf } from '#contract/comparison/measure-columns.ts'
import { meanAndSpread } from '#contract/comparison/statistics.ts'
import { type RunField, runFields, valueOfField } from '#contract/runs/run-fields.ts'
import type { ParameterValue, RunEntry, RunGroup } from '#contract/runs/runs.ts'
import { titleOfMethod } from '#contract/titles.ts'

/** Groups runs by the first field, each group by the next field, and so on. Large groups come first. Each has the means of its numbers. */
export function groupRuns(runs: readonly RunEntry[], [by, ...deeper]: readonly string[]): RunGroup[] {
  if (by === undefined) return [{ keys: [], runs: runs.length, means: meansOf(runs) }]
  return [...Map.groupBy(runs, (run) => groupOf(run, by))]
    .map(([value, members]) => ({ key: keyOf(by, value), members }))
    .sort((a, b) => b.members.length - a.members.length || a.key.label.localeCompare(b.key.label, 'en', { numeric: true }))
    .flatMap(({ key, members }) => groupRuns(members, deeper).map((group) => ({ ...group, keys: [key, ...group.keys] })))
}

function keyOf(field: string, value: ParameterValue | null): RunGroup['keys'][number] {
  const label = labelOf(field, value)
  if (value === null) return { value, label, condition: { field, is: 'absent' } }
  return { value, label, condition: isText(value) ? { field, is: 'any of', value: [value] } : { field, is: 'equal', value } }
}

const isText = (value: ParameterValue): value is string => typeof value === 'string'

function labelOf(by: string, value: ParameterValue | null): string {
  if (value === null) return 'none'
  if (by === 'method') return titleOfMethod(String(value))
  return String(value)
}

function groupOf(run: RunEntry, by: string): ParameterValue | null {
  const own = valueOfField(run, by)
  if (own !== undefined) return own
  if (by === 'tag') return run.tags[0] ?? null
  if (by.startsWith('parameter:')) return run.parameters[by.slice('parameter:'.length)] ?? null
  return numbersOf(run).find(({ field }) => field === by)?.value ?? null
}

function numbersOf(run: RunEntry): { field: string; unit: string; value: number }[] {
  const own = Object.entries(runFields).flatMap(([field, { unit }]) => (unit ? [{ field, unit, value: run[field as RunField] }] : []))
  const measures = run.measures.map((measure) => ({ field: `measure:${measureId(measure)}`, unit: measure.unit, value: measure.value }))
  return [...own, ...measures].flatMap(({ value, ...rest }) => (typeof value === 'number' ? [{ ...rest, value }] : []))
}

/**
 * Perplexities and bits per byte that cannot all be compared have no mean. The mean of perplexities is geometric, and their deviation is a
 * factor.
 */
function meansOf(members: readonly RunEntry[]): RunGroup['means'] {
  const numbers = Map.groupBy(members.flatMap(numbersOf), ({ field }) => field)
  const texts = measureColumns(members).filter(({ name }) => isPerToken(name) || name === bitsMeasure)
  const columns = new Map(texts.map((column) => [`measure:${column.id}`, column]))
  return [...numbers].map(([field, found]) => {
    const column = columns.get(field)
    const factor = column !== undefined && isPerToken(column.name)
    const own = { field, unit: found[0]?.unit ?? '', runs: found.length, factor }
    if (column && !areComparable(members, column)) return { ...own, mean: null, deviation: null }
    const { mean, spread } = meanAndSpread(found.map(({ value }) => (factor ? Math.log(value) : value)))
    return factor
      ? { ...own, mean: Math.exp(mean), deviation: spread === null ? null : Math.exp(spread) }
      : { ...own, mean, deviation: spread }
  })
}

function areComparable(members: readonly RunEntry[], column: MeasureColumn): boolean {
  const measured = members.filter((run) => measureOf(run, column.id))
  return (
    comparableSets(
      measured.map((run) => ({ runs: [run] })),
      [column],
    ).length < 2
  )
}
