import { EspalierError } from '#contract/errors.ts'
import type { RunSelection } from '#contract/runs/bulk.ts'
import { runFields } from '#contract/runs/run-fields.ts'
import type { Condition, ParameterValue, RunFilter, RunQuery } from '#contract/runs/runs.ts'

export const runSource = 'FROM runs r JOIN models m ON m.id = r.model LEFT JOIN experiments e ON e.id = r.experiment'

/** Returns the column of a field: `created_at` for `createdAt`. */
export function columnOf(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** SQL expressions for filtering and sorting, by field, in terms of `runSource`. */
export const comparable: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.keys(runFields).map((field) => [field, `r.${columnOf(field)}`])),
  model: 'm.name',
  modelId: 'r.model',
  experiment: 'e.name',
  notes: 'r.notes',
}

/** A piece of SQL with the values of its placeholders. */
export interface Sql {
  text: string
  values: (string | number)[]
}

type SqlValue = string | number
type Single = Extract<Condition['is'], 'equal' | 'below' | 'at most' | 'above' | 'at least'>

/** Returns the WHERE clause of a filter; `1` if the filter matches everything. */
export function whereOf(filter: RunFilter): Sql {
  const parts: Sql[] = filter.conditions.map(conditionSql)
  if (filter.experiment !== undefined) parts.push({ text: 'r.experiment = ?', values: [filter.experiment] })
  if (filter.archived !== 'all') parts.push({ text: `r.archived_at IS ${filter.archived === 'no' ? 'NULL' : 'NOT NULL'}`, values: [] })
  const search = searchExpression(filter.search)
  if (search !== null) parts.push({ text: 'r.number IN (SELECT rowid FROM run_search WHERE run_search MATCH ?)', values: [search] })
  return { text: parts.map(({ text }) => text).join(' AND ') || '1', values: parts.flatMap(({ values }) => values) }
}

/** Returns the WHERE clause of a selection. */
export function selectionWhere({ ids, filter, except }: RunSelection): Sql {
  const parts: Sql[] = filter ? [whereOf(filter)] : []
  if (ids) parts.push({ text: 'r.id IN (SELECT value FROM json_each(?))', values: [JSON.stringify(ids)] })
  if (except.length > 0) parts.push({ text: 'r.id NOT IN (SELECT value FROM json_each(?))', values: [JSON.stringify(except)] })
  return { text: parts.map(({ text }) => `(${text})`).join(' AND '), values: parts.flatMap(({ values }) => values) }
}

/** Returns the ORDER BY clause of a query. Missing values come last in both directions, and ties are sorted newest first. */
export function orderOf(sort: RunQuery['sort']): Sql {
  const keys = sort.map(({ field, direction }) => {
    const { text, values } = sortSource(field)
    return { text: `${text} ${direction === 'descending' ? 'DESC' : 'ASC'} NULLS LAST`, values }
  })
  return { text: [...keys.map(({ text }) => text), 'r.number DESC'].join(', '), values: keys.flatMap(({ values }) => values) }
}

/** Returns a full-text query for the words of a text as prefixes, all of which must match; null if there are no words. */
export function searchExpression(text: string): string | null {
  const words = text.split(/[^\p{L}\p{N}]+/u).filter(Boolean)
  return words.length === 0 ? null : words.map((word) => `"${word}"*`).join(' ')
}

function conditionSql(condition: Condition): Sql {
  const column = Object.hasOwn(comparable, condition.field) ? (comparable[condition.field] as string) : null
  if (column !== null) return comparison(column, condition)
  if (condition.field === 'tag') return tagCondition(condition)
  const { from, column: value, values } = valueSource(condition.field)
  const negative = condition.is === 'not equal' || condition.is === 'none of' || condition.is === 'absent'
  const inner = comparison(value, { ...condition, is: positive(condition.is) })
  return {
    text: `r.number ${negative ? 'NOT IN' : 'IN'} (SELECT run FROM ${from} AND ${inner.text})`,
    values: [...values, ...inner.values],
  }
}

function positive(is: Condition['is']): Condition['is'] {
  return ({ 'not equal': 'equal', 'none of': 'any of', absent: 'present' } as Partial<Record<Condition['is'], Condition['is']>>)[is] ?? is
}

function tagCondition(condition: Condition): Sql {
  const tags = listOf(condition)
  const tagged = {
    text: 'r.number IN (SELECT run FROM run_tags WHERE tag IN (SELECT value FROM json_each(?)))',
    values: [JSON.stringify(tags)],
  }
  if (condition.is === 'present') return { text: 'r.number IN (SELECT run FROM run_tags)', values: [] }
  if (condition.is === 'absent') return { text: 'r.number NOT IN (SELECT run FROM run_tags)', values: [] }
  if (condition.is === 'equal' || condition.is === 'any of') return tagged
  if (condition.is === 'not equal' || condition.is === 'none of') return { text: `NOT (${tagged.text})`, values: tagged.values }
  if (condition.is === 'all of')
    return { text: tags.map(() => 'r.number IN (SELECT run FROM run_tags WHERE tag = ?)').join(' AND ') || '1', values: tags }
  throw unfit(condition)
}

function comparison(column: string, condition: Condition): Sql {
  const signs: Record<Single, string> = { equal: '=', below: '<', 'at most': '<=', above: '>', 'at least': '>=' }
  const list = () => [JSON.stringify(listOf(condition))]
  switch (condition.is) {
    case 'present':
      return { text: `${column} IS NOT NULL`, values: [] }
    case 'absent':
      return { text: `${column} IS NULL`, values: [] }
    case 'any of':
      return { text: `${column} IN (SELECT value FROM json_each(?))`, values: list() }
    case 'none of':
      return { text: `(${column} IS NULL OR ${column} NOT IN (SELECT value FROM json_each(?)))`, values: list() }
    case 'not equal':
      return { text: `${column} IS NOT ?`, values: [oneOf(condition)] }
    case 'contains':
      return { text: `instr(lower(${column}), lower(?)) > 0`, values: [String(oneOf(condition))] }
    case 'between':
      return { text: `${column} BETWEEN ? AND ?`, values: bounds(condition) }
    case 'all of':
      throw unfit(condition)
    default:
      return { text: `${column} ${signs[condition.is]} ?`, values: [oneOf(condition)] }
  }
}

function sortSource(field: string): Sql {
  if (Object.hasOwn(comparable, field)) return { text: comparable[field] as string, values: [] }
  if (field === 'tag') return { text: '(SELECT min(tag) FROM run_tags WHERE run = r.number)', values: [] }
  const { from, column, values } = valueSource(field)
  return { text: `(SELECT ${column} FROM ${from} AND run = r.number LIMIT 1)`, values }
}

/** Returns where `parameter:NAME` or `measure:NAME/DATASET` is stored, as SQL to which a condition on the value is appended. */
function valueSource(field: string): { from: string; column: string; values: string[] } {
  const [, kind, name] = /^(parameter|measure):(.+)$/s.exec(field) ?? []
  if (kind === undefined || name === undefined) {
    throw new EspalierError(
      'invalid',
      `The history has no field "${field}". Fields are ${Object.keys(comparable).join(', ')}, tag, parameter:NAME and measure:NAME/DATASET.`,
    )
  }
  if (kind === 'parameter')
    return { from: 'parameters WHERE name = (SELECT id FROM parameter_names WHERE name = ?)', column: 'value', values: [name] }
  const slash = name.indexOf('/')
  if (slash < 0)
    return { from: 'measure_summaries WHERE name IN (SELECT id FROM measure_names WHERE name = ?)', column: 'last', values: [name] }
  return {
    from: 'measure_summaries WHERE name = (SELECT id FROM measure_names WHERE name = ? AND dataset = ?)',
    column: 'last',
    values: [name.slice(0, slash), name.slice(slash + 1)],
  }
}

function sqlValue(value: ParameterValue): SqlValue {
  return typeof value === 'boolean' ? Number(value) : value
}

function listOf({ value }: Condition): SqlValue[] {
  return (value === undefined ? [] : Array.isArray(value) ? value : [value]).map(sqlValue)
}

function oneOf(condition: Condition): SqlValue {
  const [value, ...more] = listOf(condition)
  if (value === undefined || more.length > 0) throw unfit(condition)
  return value
}

function bounds(condition: Condition): [SqlValue, SqlValue] {
  const [low, high, ...more] = listOf(condition)
  if (low === undefined || high === undefined || more.length > 0) throw unfit(condition)
  return [low, high]
}

function unfit({ field, is, value }: Condition): EspalierError {
  return new EspalierError(
    'invalid',
    `The filter "${field} ${is} ${JSON.stringify(value ?? null)}" cannot be used: "${is}" does not take that value or that field.`,
  )
}
