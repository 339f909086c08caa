import { shapeText } from '#contract/comparison/comparison-table.ts'
import { measureId } from '#contract/comparison/measure-columns.ts'
import { repairTitles } from '#contract/pruning/repair.ts'
import { linkedFields, type RunField, runFields, valueOfField } from '#contract/runs/run-fields.ts'
import type { RunColumn, RunEntry } from '#contract/runs/runs.ts'
import { formatAgo, formatMeasure, formatSeconds, formatShare } from '../../lib/format.ts'

/** A column of the history table. `width` is in rem; the service sorts by `field`. */
export interface TableColumn {
  field: string
  title: string
  width: number
  numeric: boolean
  text: (run: RunEntry, now: number) => string
  /** What a number was measured on, since numbers of other windows have the same heading. */
  hint?: (run: RunEntry) => string | null
}

/** A name longer than this does not fit into two lines of its column. */
const longName = 44

/**
 * The name of a run for a narrow column. A long one says less of repair and recovery, so that its end, which tells it from others, is seen.
 */
export function briefName(name: string): string {
  const details = [
    [/ recovered with [\d,.]+ tokens\b/, ' recovered'],
    ...Object.values(repairTitles).map((title) => [title, 'repaired']),
  ] as const
  return details.reduce((brief, [detail, short]) => (brief.length > longName ? brief.replace(detail, short) : brief), name)
}

/** A column for a field of `runFields` or of a linked row, such as the model's name. */
function ownColumn(field: string, width: number, title?: string): TableColumn {
  const { label, kind } = Object.hasOwn(runFields, field)
    ? runFields[field as RunField]
    : { label: linkedFields[field as keyof typeof linkedFields], kind: 'text' as const }
  return {
    field,
    title: title ?? label,
    width,
    numeric: kind === 'number' || kind === 'moment',
    text: (run, now) => ownText(run, field, now),
  }
}

const leading = [ownColumn('model', 7.25), ownColumn('nominal', 5.25), ownColumn('reached', 5.25)]
const trailing = [ownColumn('seconds', 5.75, 'Time'), ownColumn('createdAt', 6)]

/** Fields that the table always shows. */
export const alwaysShown = ['name', 'status', 'method', 'starred', ...[...leading, ...trailing].map(({ field }) => field)]

interface Arrangement {
  readonly order: readonly string[]
  readonly widths: Readonly<Record<string, number>>
  readonly search: string
}

/**
 * The columns after status, name and method: those above, and between them the chosen fields, unless the user reordered them. A search also
 * finds runs by the name of their experiment, so it shows that too.
 */
export function tableColumns(
  chosen: readonly string[],
  known: readonly RunColumn[],
  { order, widths, search }: Arrangement,
): TableColumn[] {
  const fields = search === '' ? chosen : [...new Set(['experiment', ...chosen])]
  const all = [...leading, ...fields.map((field) => chosenColumn(field, known)), ...trailing]
  const place = ({ field }: TableColumn, at: number) => (order.includes(field) ? order.indexOf(field) : order.length + at)
  return all
    .map((column, at) => ({ column: { ...column, width: widths[column.field] ?? column.width }, place: place(column, at) }))
    .sort((a, b) => a.place - b.place)
    .map(({ column }) => column)
}

function chosenColumn(field: string, known: readonly RunColumn[]): TableColumn {
  const column = known.find((candidate) => candidate.field === field)
  const bare = field.replace(/^(measure|parameter):/, '')
  const title = column?.label ?? bare
  if (Object.hasOwn(runFields, field) || Object.hasOwn(linkedFields, field)) return ownColumn(field, widthFor(title))
  const numeric = column ? column.kind === 'number' : field.startsWith('measure:')
  const hint = (run: RunEntry) => shapeText(measureIn(run, bare))
  return { field, title, width: widthFor(title), numeric, text: (run) => cellText(run, field, bare), hint }
}

const measureIn = ({ measures }: RunEntry, bare: string) =>
  measures.find((candidate) => measureId(candidate) === bare) ?? measures.find(({ name }) => name === bare)

/** Titles break between words, so a column fits the longest word or a third of the title. */
function widthFor(title: string): number {
  const longest = Math.max(...title.split(/\s+/).map(({ length }) => length))
  return Math.min(10, Math.max(6, longest * 0.46 + 1.8, title.length * 0.19 + 2))
}

function cellText(run: RunEntry, field: string, bare: string): string {
  if (field === 'tag') return run.tags.join(', ')
  if (field.startsWith('measure:')) {
    const measure = measureIn(run, bare)
    return measure ? formatMeasure(measure.value, measure.unit) : ''
  }
  const value = run.parameters[bare]
  return value === undefined ? '' : typeof value === 'number' ? formatMeasure(value, '') : String(value)
}

function ownText(run: RunEntry, field: string, now: number): string {
  const value = valueOfField(run, field)
  if (value === null || value === undefined) return ''
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'string') return value
  const { kind, unit } = runFields[field as RunField] as { kind: string; unit?: string }
  if (kind === 'moment') return formatAgo(value, now)
  if (unit === 'share') return formatShare(value)
  return unit === 's' ? formatSeconds(value) : String(value)
}
