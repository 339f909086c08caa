import type { Input } from '#contract/api.ts'
import { type RunField, runFields } from '#contract/runs/run-fields.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { Condition, ParameterValue, RunColumn } from '#contract/runs/runs.ts'
import { formatDay, formatMeasure, formatMoment, formatShare } from '../../lib/format.ts'
import { alwaysShown } from './columns.ts'

/** The part of the history screen's state that the address keeps. */
export interface HistoryView {
  search: string
  statuses: RunStatus[]
  conditions: Condition[]
  experiment: string
  archived: 'no' | 'only' | 'all'
  sort: { field: string; direction: 'ascending' | 'descending' }
  columns: string[] | null
  /** Fields in the order that the user chose. Other fields follow in their default order. */
  order: string[]
  /** Widths in rem that the user gave to columns. */
  widths: Record<string, number>
  /** The fields that runs are grouped by, outermost first. */
  groups: string[]
}

const defaultSort = { field: 'createdAt', direction: 'descending' } as const

/** Reads the address. Unknown parts are ignored. */
export function readView(query: Readonly<Record<string, string>>): HistoryView {
  const sort = /^(-?)(.+)$/.exec(query.sort ?? '')
  return {
    search: query.search ?? '',
    statuses: (query.status ?? '').split(',').filter(Boolean) as RunStatus[],
    conditions: readConditions(query.where),
    experiment: query.experiment ?? '',
    archived: query.archived === 'only' || query.archived === 'all' ? query.archived : 'no',
    sort: sort?.[2] ? { field: sort[2], direction: sort[1] ? 'descending' : 'ascending' } : defaultSort,
    columns: query.columns === undefined ? null : query.columns.split('~').filter(Boolean),
    order: (query.order ?? '').split('~').filter(Boolean),
    widths: readWidths(query.widths ?? ''),
    groups: (query.group ?? '').split('~').filter(Boolean),
  }
}

export function writeView(view: HistoryView): Record<string, string | undefined> {
  const sorted = view.sort.field !== defaultSort.field || view.sort.direction !== defaultSort.direction
  return {
    search: view.search,
    status: view.statuses.join(','),
    where:
      view.conditions.length > 0
        ? JSON.stringify(view.conditions.map(({ field, is, value }) => (value === undefined ? [field, is] : [field, is, value])))
        : '',
    experiment: view.experiment,
    archived: view.archived === 'no' ? '' : view.archived,
    sort: sorted ? `${view.sort.direction === 'descending' ? '-' : ''}${view.sort.field}` : '',
    columns: view.columns === null ? undefined : view.columns.join('~') || '~',
    order: view.order.join('~'),
    widths: Object.entries(view.widths)
      .map(([field, width]) => `${field}=${width}`)
      .join('~'),
    group: view.groups.join('~'),
  }
}

function readWidths(text: string): Record<string, number> {
  const pairs = text.split('~').map((pair) => /^(.+)=([\d.]+)$/.exec(pair))
  return Object.fromEntries(pairs.flatMap((pair) => (pair ? [[pair[1] as string, clampWidth(Number(pair[2]))]] : [])))
}

/** Limits the width of a column, which must stay wide enough to be grabbed again. */
export function clampWidth(rem: number): number {
  return Math.min(40, Math.max(3, Number(rem.toFixed(2))))
}

/** Moves a field before another, or to the end if `before` is null. */
export function moveField(fields: readonly string[], moved: string, before: string | null): string[] {
  const rest = fields.filter((field) => field !== moved)
  const at = before === null ? -1 : rest.indexOf(before)
  return at < 0 ? [...rest, moved] : [...rest.slice(0, at), moved, ...rest.slice(at)]
}

function readConditions(text: string | undefined): Condition[] {
  if (!text) return []
  try {
    const list: unknown = JSON.parse(text)
    if (!Array.isArray(list)) return []
    return list.flatMap((entry: unknown) => {
      if (!Array.isArray(entry) || typeof entry[0] !== 'string' || typeof entry[1] !== 'string') return []
      return [
        { field: entry[0], is: entry[1] as Condition['is'], ...(entry[2] === undefined ? {} : { value: entry[2] as ParameterValue }) },
      ]
    })
  } catch {
    return []
  }
}

/** Turns a view into the filter that the calls of the history take. */
export function toFilter(view: HistoryView): Input<'runs.csv'> {
  const status: Condition[] = view.statuses.length > 0 ? [{ field: 'status', is: 'any of', value: view.statuses }] : []
  return {
    search: view.search,
    conditions: [...status, ...view.conditions],
    ...(view.experiment ? { experiment: view.experiment } : {}),
    archived: view.archived,
  }
}

/** Names shown instead of ids: of methods, and of the models of the rows in view. */
export interface ShownNames {
  methods: readonly { id: string; title: string }[]
  models: ReadonlyMap<string, string>
}

/** The form in which the table shows the values of a field, and in which conditions are typed. */
function unitOf(field: string, column: RunColumn | undefined): 'percent' | 'moment' | 'method' | 'model' | 'plain' {
  if (field === 'modelId') return 'model'
  if (field === 'method') return 'method'
  if (column?.kind === 'moment') return 'moment'
  const unit = Object.hasOwn(runFields, field) ? (runFields[field as RunField] as { unit?: string }).unit : column?.unit
  return unit === 'share' || unit === 'fraction' ? 'percent' : 'plain'
}

function showConditionValue(field: string, column: RunColumn | undefined, value: unknown, names: ShownNames): string {
  switch (unitOf(field, column)) {
    case 'percent':
      return formatShare(Number(value))
    case 'moment':
      return formatMoment(Number(value))
    case 'method':
      return names.methods.find(({ id }) => id === value)?.title ?? String(value)
    case 'model':
      return names.models.get(String(value)) ?? 'from the link'
    default:
      return String(value)
  }
}

export function describeCondition(condition: Condition, columns: readonly RunColumn[], names: ShownNames): string {
  const { field, is, value } = condition
  const column = columns.find((candidate) => candidate.field === field)
  const label = field === 'modelId' ? 'Model' : (column?.label ?? field.replace(/^(parameter|measure):/, ''))
  const signs: Partial<Record<Condition['is'], string>> = {
    equal: '=',
    'not equal': '≠',
    below: '<',
    'at most': '≤',
    above: '>',
    'at least': '≥',
    'any of': 'is',
    'none of': 'is not',
  }
  const values = (value === undefined ? [] : Array.isArray(value) ? value : [value]).map((one) =>
    showConditionValue(field, column, one, names),
  )
  const between = is === 'between' ? ' to ' : is === 'all of' ? ' and ' : ' or '
  return `${label} ${signs[is] ?? is} ${values.join(between)}`.trim()
}

/** The unit in which a column's value is typed, and the range of its values, for the hint beside the field. */
export function valueHint(column: RunColumn | undefined): { unit: string; range: string } {
  if (!column) return { unit: '', range: '' }
  const unit = unitOf(column.field, column)
  const ranged = column.minimum !== undefined && column.maximum !== undefined
  const show = (value: number | undefined) =>
    unit === 'percent' ? formatShare(value ?? 0) : unit === 'moment' ? formatDay(value ?? 0) : formatMeasure(value ?? 0, column.unit ?? '')
  return {
    unit: unit === 'percent' ? '%' : unit === 'moment' ? 'year-month-day' : (column.unit ?? ''),
    range: ranged ? `from ${show(column.minimum)} to ${show(column.maximum)}` : '',
  }
}

/** Parses a day with an optional time, in local time; NaN if it is none. With `atEnd`, a day or a minute means its last millisecond. */
function parseMoment(text: string, atEnd: boolean): number {
  const [, day, time] = /^(\d{4}-\d{1,2}-\d{1,2})(?:[ T](\d{1,2}:\d{2}))?$/.exec(text.trim()) ?? []
  if (day === undefined) return Number.NaN
  const [year = 0, month = 1, date = 1] = day.split('-').map(Number)
  const [hour = 0, minute = 0] = (time ?? '').split(':').filter(Boolean).map(Number)
  const start = new Date(year, month - 1, date)
  if (start.getMonth() !== month - 1 || hour > 23 || minute > 59) return Number.NaN
  if (time !== undefined) return start.setHours(hour, minute) + (atEnd ? 59_999 : 0)
  // The day on which clocks change has 23 or 25 hours.
  return atEnd ? new Date(year, month - 1, date + 1).getTime() - 1 : start.getTime()
}

/** Whether a comparison takes several values. Names contain commas, so semicolons separate them. */
export function takesList(is: Condition['is']): boolean {
  return is === 'any of' || is === 'none of' || is === 'all of'
}

/** The comparisons that make sense for a column. */
export function comparisonsFor(column: RunColumn | undefined): Condition['is'][] {
  if (!column) return ['equal']
  if (column.kind === 'number' || column.kind === 'moment') return ['at most', 'at least', 'equal', 'between', 'present', 'absent']
  if (column.kind === 'tags') return ['any of', 'all of', 'none of']
  if (column.kind === 'boolean') return ['equal']
  return ['any of', 'none of', 'contains', 'present', 'absent']
}

/** Parses a typed condition, in the units and with the names that the table shows; null if something is missing or wrong. */
export function parseCondition(
  column: RunColumn | undefined,
  is: Condition['is'],
  text: string,
  methods: ShownNames['methods'],
): Condition | null {
  if (!column) return null
  if (is === 'present' || is === 'absent') return { field: column.field, is }
  const separator = is === 'between' ? /,|\bto\b|–/ : takesList(is) ? ';' : null
  const parts = (separator ? text.split(separator) : [text]).map((part) => part.trim()).filter(Boolean)
  const values = parts.map((part, at) => parseValue(column, part, is === 'at most' || (is === 'between' && at === 1), methods))
  if (values.length === 0 || values.some((value) => typeof value === 'number' && !Number.isFinite(value))) return null
  if (is === 'between') return values.length === 2 ? { field: column.field, is, value: values } : null
  if (takesList(is)) return { field: column.field, is, value: values }
  const [value] = values
  if (column.kind === 'moment' && is === 'equal' && typeof value === 'number')
    return { field: column.field, is: 'between', value: [value, parseMoment(text, true)] }
  return value === undefined ? null : { field: column.field, is, value }
}

function parseValue(column: RunColumn, part: string, atEnd: boolean, methods: ShownNames['methods']): ParameterValue {
  const unit = unitOf(column.field, column)
  if (unit === 'percent') return Number((Number(part.replace(/%\s*$/, '').replace(',', '.')) / 100).toFixed(8))
  if (unit === 'moment') return parseMoment(part, atEnd)
  if (unit === 'method') return methods.find(({ id, title }) => [id, title.toLowerCase()].includes(part.toLowerCase()))?.id ?? part
  if (column.kind === 'number') return Number(part)
  return column.kind === 'boolean' ? part === 'true' || part === 'yes' : part
}

/** Columns that can be added to those that the table always shows, measures first. */
export function choosableColumns(columns: readonly RunColumn[]): RunColumn[] {
  const rank = ({ field }: RunColumn) => (field.startsWith('measure:') ? 0 : field.startsWith('parameter:') ? 2 : 1)
  return columns.filter((column) => rank(column) !== 1 || !alwaysShown.includes(column.field)).sort((a, b) => rank(a) - rank(b))
}

/** The default columns: two measures, perplexities first, then those that most runs have. */
export function defaultColumns(columns: readonly RunColumn[]): string[] {
  return columns
    .filter(({ field, runs }) => field.startsWith('measure:') && runs > 0 && !/^measure:parameters/.test(field))
    .sort((a, b) => Number(/perplexity/.test(b.field)) - Number(/perplexity/.test(a.field)) || b.runs - a.runs)
    .slice(0, 2)
    .map(({ field }) => field)
}

/** The pages (of `size` rows) that a window touches. */
export function pagesOf({ from, to }: { from: number; to: number }, size: number): number[] {
  if (to <= from) return []
  const first = Math.floor(from / size)
  return Array.from({ length: Math.floor((to - 1) / size) - first + 1 }, (_, at) => first + at)
}

/** Statuses in the order of a run's life; the type keeps this list complete. */
const order: Record<RunStatus, number> = { draft: 0, queued: 1, running: 2, paused: 3, interrupted: 4, done: 5, failed: 6, cancelled: 7 }

export const runStatusOrder = (Object.keys(order) as RunStatus[]).sort((a, b) => order[a] - order[b])
