import { measureId } from '#contract/comparison/comparison.ts'
import type { RunColumn, RunEntry } from '#contract/runs/runs.ts'
import { formatAgo, formatMeasure, formatSeconds, formatShare } from '../../lib/format.ts'
import type { HistoryView } from './runs-query.ts'

/** A column of the history table; `width` in rem, `field` what the service sorts by. */
export interface TableColumn {
  field: string
  title: string
  width: number
  numeric: boolean
  text: (run: RunEntry, now: number) => string
}

const fixed: TableColumn[] = [
  { field: 'model', title: 'Model', width: 7.5, numeric: false, text: (run) => run.model.name },
  {
    field: 'nominal',
    title: 'Sparsity',
    width: 5.5,
    numeric: true,
    text: (run) => (run.nominal === null ? '' : formatShare(run.nominal)),
  },
  { field: 'reached', title: 'Reached', width: 5.5, numeric: true, text: (run) => (run.reached === null ? '' : formatShare(run.reached)) },
]

const trailing: TableColumn[] = [
  { field: 'seconds', title: 'Time', width: 6.25, numeric: true, text: (run) => (run.seconds === null ? '' : formatSeconds(run.seconds)) },
  { field: 'createdAt', title: 'Made', width: 5.75, numeric: true, text: (run, now) => formatAgo(run.createdAt, now) },
]

/** The columns between name and time: fixed ones and the parameters and measures that were chosen. */
export function tableColumns(
  chosen: readonly string[],
  known: readonly RunColumn[],
  { order, widths }: Pick<HistoryView, 'order' | 'widths'> = { order: [], widths: {} },
): TableColumn[] {
  const all = [...fixed, ...chosen.map((field) => chosenColumn(field, known)), ...trailing]
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
  const numeric = column ? column.kind === 'number' : field.startsWith('measure:')
  return { field, title, width: widthFor(title), numeric, text: (run) => cellText(run, field, bare) }
}

/** Titles break between words: as wide as the longest one, or a third of all. */
function widthFor(title: string): number {
  const longest = Math.max(...title.split(/\s+/).map(({ length }) => length))
  return Math.min(10, Math.max(6, longest * 0.46 + 2.2, title.length * 0.19 + 2))
}

function cellText(run: RunEntry, field: string, bare: string): string {
  if (field === 'seed') return String(run.seed)
  if (field === 'tag') return run.tags.join(', ')
  if (field === 'experiment') return run.experiment?.name ?? ''
  if (field.startsWith('measure:')) {
    const measure = run.measures.find((candidate) => measureId(candidate) === bare) ?? run.measures.find(({ name }) => name === bare)
    return measure ? formatMeasure(measure.value, measure.unit) : ''
  }
  const value = run.parameters[bare]
  return value === undefined ? '' : typeof value === 'number' ? formatMeasure(value, '') : String(value)
}
