import type { ComparedRun } from '#contract/compare.ts'
import { deltaOf, type MeasureColumn, measureColumns, measureId, measureOf, type SeedGroup } from '#contract/comparison.ts'
import type { ParameterValue } from '#contract/runs.ts'
import type { BarGroup } from '../../charts/bars.ts'
import type { ParallelDimension, ParallelLine } from '../../charts/parallel.ts'
import type { ScatterPoint } from '../../charts/scatter.ts'
import { formatMeasure, formatShare } from '../../lib/format.ts'
import { orderMeasures } from '../../lib/measures.ts'
import type { SeriesStyle } from '../../lib/series.ts'

/** One compared thing: a run, or several that differ only in the seed. */
export interface Subject {
  id: string
  label: string
  method: string
  nominal: number | null
  reached: number | null
  baseline: boolean
  runs: ComparedRun[]
  values: Map<string, { mean: number; spread: number | null; error: number | null }>
}

export function toSubject(group: SeedGroup, baseline: string | null): Subject {
  const run = group.runs[0] as ComparedRun
  const reached = group.runs.flatMap((member) => (member.reached === null ? [] : [member.reached]))
  return {
    id: run.id,
    label: group.runs.length > 1 ? `${run.name} (${group.runs.length} seeds)` : run.name,
    method: run.method,
    nominal: run.nominal,
    reached: reached.length === 0 ? null : reached.reduce((sum, value) => sum + value, 0) / reached.length,
    baseline: group.runs.some(({ id }) => id === baseline),
    runs: group.runs,
    values: new Map(
      [...group.measures].map(([id, { mean, spread }]) => [
        id,
        { mean, spread, error: group.runs.length === 1 ? (measureOf(run, id)?.error ?? null) : spread },
      ]),
    ),
  }
}

/** A line of the comparison: a fact, a parameter or a measure, with its value for each subject. */
export interface ComparisonLine {
  id: string
  title: string
  kind: 'fact' | 'parameter' | 'measure'
  column: MeasureColumn | null
  cells: ComparisonCell[]
  differs: boolean
}

export interface ComparisonCell {
  text: string
  spread: string
  delta: { text: string; better: boolean | null } | null
  best: boolean
}

/** All lines of the table, in the order of `subjects`. Deltas are taken against `baseline`; the baseline does not compete for the best. */
export function comparisonLines(
  subjects: readonly Subject[],
  baseline: Subject | null,
  columns: readonly MeasureColumn[],
  methodTitle: (id: string) => string,
): ComparisonLine[] {
  const plain = (id: string, title: string, kind: 'fact' | 'parameter', values: string[]): ComparisonLine => ({
    id,
    title,
    kind,
    column: null,
    cells: values.map((text) => ({ text, spread: '', delta: null, best: false })),
    differs: new Set(values).size > 1,
  })
  const share = (value: number | null) => (value === null ? '–' : formatShare(value))
  return [
    plain(
      'method',
      'Method',
      'fact',
      subjects.map(({ method }) => methodTitle(method)),
    ),
    plain(
      'model',
      'Model',
      'fact',
      subjects.map(({ runs }) => runs[0]?.model.name ?? ''),
    ),
    plain(
      'nominal',
      'Sparsity',
      'fact',
      subjects.map(({ nominal }) => share(nominal)),
    ),
    plain(
      'reached',
      'Reached',
      'fact',
      subjects.map(({ reached }) => share(reached)),
    ),
    plain(
      'seed',
      'Seed',
      'fact',
      subjects.map(({ runs }) => runs.map(({ seed }) => seed).join(', ')),
    ),
    ...columns.map((column) => measureLine(subjects, baseline, column)),
    ...parameterNames(subjects).map((name) =>
      plain(
        `parameter:${name}`,
        name,
        'parameter',
        subjects.map(({ runs }) => showParameter(runs[0]?.parameters[name])),
      ),
    ),
  ]
}

function measureLine(subjects: readonly Subject[], baseline: Subject | null, column: MeasureColumn): ComparisonLine {
  const competing = subjects
    .filter((subject) => subject !== baseline && !subject.baseline)
    .flatMap(({ values }) => values.get(column.id)?.mean ?? [])
  const best = competing.length < 2 ? null : column.lowerIsBetter ? Math.min(...competing) : Math.max(...competing)
  const reference = baseline?.values.get(column.id)?.mean
  const cells = subjects.map((subject): ComparisonCell => {
    const value = subject.values.get(column.id)
    if (!value) return { text: '–', spread: '', delta: null, best: false }
    const compared = reference === undefined || subject === baseline ? null : deltaOf(value.mean, reference, column.lowerIsBetter)
    return {
      text: formatMeasure(value.mean, column.unit),
      spread: value.error ? `± ${formatMeasure(value.error, column.unit)}` : '',
      delta: compared && { text: deltaText(compared), better: compared.better },
      best: value.mean === best && subject !== baseline && !subject.baseline,
    }
  })
  return {
    id: column.id,
    title: columnTitle(column),
    kind: 'measure',
    column,
    cells,
    differs: new Set(cells.map(({ text }) => text)).size > 1,
  }
}

/** A change as people say it: in percent, or as a factor when it is many times. */
export function deltaText({ absolute, relative }: { absolute: number; relative: number | null }): string {
  if (absolute === 0) return '±0'
  if (relative === null) return absolute > 0 ? '+' : '−'
  if (relative >= 9) return `×${Math.round(relative + 1).toLocaleString('en-US')}`
  const percent = Math.abs(relative * 100)
  return `${absolute > 0 ? '+' : '−'}${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`
}

export function columnTitle({ name, dataset }: { name: string; dataset: string }): string {
  return dataset ? `${name}, ${dataset}` : name
}

function parameterNames(subjects: readonly Subject[]): string[] {
  const hidden = new Set(['seed', 'method', 'model', 'sparsity'])
  return [...new Set(subjects.flatMap(({ runs }) => Object.keys(runs[0]?.parameters ?? {})))].filter((name) => !hidden.has(name)).sort()
}

function showParameter(value: ParameterValue | undefined): string {
  return value === undefined ? '–' : String(value)
}

/** What an axis can show: the reached sparsity or any measure. */
export interface AxisChoice {
  id: string
  title: string
  /** Without its data set. */
  name: string
  better: 'lower' | 'higher'
  format: (value: number) => string
  log: boolean
}

export const sparsityAxis: AxisChoice = {
  id: 'reached',
  title: 'sparsity reached',
  name: 'sparsity reached',
  better: 'higher',
  format: formatShare,
  log: false,
}

export function axisChoices(columns: readonly MeasureColumn[]): AxisChoice[] {
  return [
    sparsityAxis,
    ...columns.map(
      (column): AxisChoice => ({
        id: column.id,
        title: columnTitle(column),
        name: column.name,
        better: column.lowerIsBetter ? 'lower' : 'higher',
        format: (value) => formatMeasure(value, column.unit),
        log: /perplexity/.test(column.name),
      }),
    ),
  ]
}

export function valueOn(subject: Subject, axis: string): number | null {
  if (axis === 'reached') return subject.baseline && subject.reached === null ? 0 : subject.reached
  return subject.values.get(axis)?.mean ?? null
}

/** The points of the scatter; size shows a third measure, such as tokens per second. */
export function scatterPoints(
  subjects: readonly Subject[],
  x: string,
  y: string,
  size: string,
  styleOf: (method: string) => SeriesStyle,
): ScatterPoint[] {
  const sizes = subjects.flatMap((subject) => valueOn(subject, size) ?? [])
  const largest = Math.max(...sizes, 0)
  return subjects.flatMap((subject) => {
    const at = valueOn(subject, x)
    const up = valueOn(subject, y)
    if (at === null || up === null || (subject.baseline && x !== 'reached')) return []
    const weight = size ? (valueOn(subject, size) ?? 0) / (largest || 1) : 0.45
    return [
      {
        ...styleOf(subject.method),
        id: subject.id,
        label: subject.label,
        series: subject.method,
        x: at,
        y: up,
        size: weight,
        spread: subject.runs.length > 1 ? (subject.values.get(y)?.spread ?? null) : null,
      },
    ]
  })
}

export function parallelData(
  subjects: readonly Subject[],
  columns: readonly MeasureColumn[],
  methodTitle: (id: string) => string,
  styleOf: (method: string) => SeriesStyle,
): { dimensions: ParallelDimension[]; lines: ParallelLine[] } {
  const measured = columns.filter((column) => new Set(subjects.map((subject) => subject.values.get(column.id)?.mean)).size > 1).slice(0, 8)
  const dimensions: ParallelDimension[] = [
    { id: 'method', title: 'method', kind: 'text' },
    { id: 'reached', title: 'reached', kind: 'number', format: formatShare },
    ...measured.map(
      (column): ParallelDimension => ({
        id: column.id,
        title: shorten(columnTitle(column)),
        kind: 'number',
        log: /perplexity/.test(column.name),
        format: (value) => formatMeasure(value, column.unit),
      }),
    ),
  ]
  const lines = subjects.map(
    (subject): ParallelLine => ({
      id: subject.id,
      label: subject.label,
      color: styleOf(subject.method).color,
      values: {
        method: methodTitle(subject.method),
        reached: valueOn(subject, 'reached'),
        ...Object.fromEntries(measured.map(({ id }) => [id, subject.values.get(id)?.mean ?? null])),
      },
    }),
  )
  return { dimensions, lines }
}

/** Bars per task: every accuracy, or where there is none every perplexity. */
export function taskBars(
  subjects: readonly Subject[],
  columns: readonly MeasureColumn[],
  styleOf: (method: string) => SeriesStyle,
): { title: string; groups: BarGroup[]; unit: string } {
  const accuracies = columns.filter(({ unit }) => unit === 'share')
  const shown = accuracies.length > 0 ? accuracies : columns.filter(({ name }) => name === 'perplexity')
  const groups = shown.map(
    (column): BarGroup => ({
      title: column.dataset || column.name,
      bars: subjects.flatMap((subject) => {
        const value = subject.values.get(column.id)
        return value
          ? [{ id: subject.id, label: subject.label, color: styleOf(subject.method).color, value: value.mean, error: value.error }]
          : []
      }),
    }),
  )
  return { title: accuracies.length > 0 ? 'Accuracy per task' : 'Perplexity per data set', groups, unit: shown[0]?.unit ?? '' }
}

/** Baseline first, then by sparsity and method; the same order everywhere on the screen. */
export function orderSubjects(subjects: readonly Subject[]): Subject[] {
  return [...subjects].sort(
    (a, b) =>
      Number(b.baseline) - Number(a.baseline) ||
      (a.nominal ?? 0) - (b.nominal ?? 0) ||
      a.method.localeCompare(b.method) ||
      a.label.localeCompare(b.label),
  )
}

export function runColumns(subjects: readonly Subject[]): MeasureColumn[] {
  return orderMeasures(measureColumns(subjects.flatMap(({ runs }) => runs)))
}

export function hasMeasure(run: ComparedRun, id: string): boolean {
  return run.measures.some((measure) => measureId(measure) === id)
}

function shorten(title: string): string {
  return title.length > 22 ? `${title.slice(0, 21)}…` : title
}
