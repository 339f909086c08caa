import { measureId } from '#contract/comparison/measure-columns.ts'
import { isPerToken } from '#contract/comparison/same-tokens.ts'
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

function meansOf(members: readonly RunEntry[]): RunGroup['means'] {
  const numbers = members.flatMap((run) => numbersOf(run).map((number) => ({ ...number, model: run.model.id })))
  return [...Map.groupBy(numbers, ({ field }) => field)].map(([field, found]) => {
    const own = { field, unit: found[0]?.unit ?? '', runs: found.length }
    if (isPerToken(field.replace('measure:', '')) && new Set(found.map(({ model }) => model)).size > 1)
      return { ...own, mean: null, deviation: null }
    const { mean, spread } = meanAndSpread(found.map(({ value }) => value))
    return { ...own, mean, deviation: spread }
  })
}
