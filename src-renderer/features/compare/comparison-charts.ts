import { at } from '#contract/at.ts'
import { sparsityTolerance } from '#contract/comparison/best-results.ts'
import { windowsNotes } from '#contract/comparison/comparison-table.ts'
import { type MeasureColumn, subjectTitle } from '#contract/comparison/measure-columns.ts'
import { lineKey } from '#contract/comparison/seeds.ts'
import { seriesId, type Treatment } from '#contract/comparison/series.ts'
import type { Front, WorthRow } from '#contract/comparison/worth.ts'
import type { BarGroup } from '../../charts/bars.ts'
import type { ScatterPoint } from '../../charts/scatter.ts'
import { formatMeasure, formatShare } from '../../lib/format.ts'
import type { SeriesStyle } from '../../lib/series-style.ts'
import { columnTitle, type Subject } from './subjects.ts'

/** What an axis can show: the reached sparsity or any measure. */
interface AxisChoice {
  id: string
  title: string
  /** Without its data set. */
  name: string
  better: 'lower' | 'higher'
  tolerance?: number
  format: (value: number) => string
  log: boolean
}

export const sparsityAxis: AxisChoice = {
  id: 'reached',
  title: 'sparsity reached',
  name: 'sparsity reached',
  better: 'higher',
  tolerance: sparsityTolerance,
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
  return subject.measures.get(axis)?.mean ?? null
}

/** Models are told apart by the dashes of their lines, and all after the first by hollow marks. */
const modelDashes = ['', '6 4', '2 3', '9 3 2 3'] as const

const modelOf = ({ model, runs }: Subject): string => `${at(runs, 0).model.id} ${model}`
export const isUnpruned = ({ runs }: Subject): boolean => runs.some(({ baseline }) => baseline)

export const modelsOf = (subjects: readonly Subject[]): string[] => [...new Set(subjects.map(modelOf))]

export function modelStyle(subject: Subject, models: readonly string[]): { dashes: string; hollow: boolean } {
  const index = models.indexOf(modelOf(subject))
  return { dashes: modelDashes[index % modelDashes.length] ?? '', hollow: index > 0 }
}

/** Says whose marks are filled and whose are hollow. Empty for a single model. */
export function modelsNote(subjects: readonly Subject[], models: readonly string[]): string {
  if (models.length < 2) return ''
  const [filled, ...hollow] = models.map((model) => subjects.find((subject) => modelOf(subject) === model)?.model)
  return `Filled marks: ${filled}; hollow: ${hollow.join(', ')}.`
}

/** What is drawn as a line across: the pinned baseline, and if it is unpruned, the unpruned result of each other model. */
export function baselinesOf(subjects: readonly Subject[], y: string): Subject[] {
  const measured = subjects.filter((subject) => valueOn(subject, y) !== null)
  const pinned = measured.find(({ baseline }) => baseline)
  if (!pinned) return []
  const others = isUnpruned(pinned) ? measured.filter((subject) => isUnpruned(subject) && modelOf(subject) !== modelOf(pinned)) : []
  return [
    pinned,
    ...Map.groupBy(others, modelOf)
      .values()
      .flatMap(([first]) => (first ? [first] : [])),
  ]
}

/** The points of the scatter; size shows a third measure, such as tokens per second. */
export function scatterPoints(
  subjects: readonly Subject[],
  x: string,
  y: string,
  size: string,
  {
    styleOf,
    setOf,
  }: { styleOf: (subject: Subject) => SeriesStyle & Pick<ScatterPoint, 'dashes' | 'hollow'>; setOf: (subject: Subject) => number },
): ScatterPoint[] {
  const sizes = subjects.flatMap((subject) => valueOn(subject, size) ?? [])
  const largest = Math.max(...sizes, 0)
  return subjects.flatMap((subject) => {
    const across = valueOn(subject, x)
    const up = valueOn(subject, y)
    if (across === null || up === null) return []
    const weight = size ? (valueOn(subject, size) ?? 0) / (largest || 1) : 0.45
    return [
      {
        ...styleOf(subject),
        id: subject.id,
        label: subject.label,
        series: seriesId(subject.method, subject.repair),
        // A line connects only what can be compared.
        line: `${setOf(subject)} ${lineKey(at(subject.runs, 0))}`,
        set: setOf(subject),
        x: across,
        y: up,
        size: weight,
        spread: subject.runs.length > 1 ? (subject.measures.get(y)?.spread ?? null) : null,
        factor: subject.measures.get(y)?.factor ?? false,
      },
    ]
  })
}

/** Says what lines or ± mean: the standard error of a single run, or the deviation over seeds. Empty if no subject has either. */
export function errorNote(mark: string, subjects: readonly Subject[], columns: readonly MeasureColumn[]): string {
  const values = subjects.flatMap(({ measures }) => columns.flatMap(({ id }) => measures.get(id) ?? []))
  const known = values.filter(({ spread }) => spread !== null)
  const counts = known.filter(({ factor }) => !factor).map(({ count }) => count)
  const factors = known.some(({ factor }) => factor) ? [`${mark === '±' ? '×/÷' : mark}: one deviation over seeds, as a factor`] : []
  if (counts.length === 0) return factors.join('')
  const single = counts.every((count) => count === 1) ? 'one standard error' : 'one deviation over seeds'
  const both = counts.includes(1) && !counts.every((count) => count === 1) ? ', for single runs one standard error' : ''
  return [...factors, `${mark}: ${single}${both}`].join('. ')
}

interface TaskBars {
  title: string
  measure: string
  groups: BarGroup[]
  errors: string
  unit: string
  columns: readonly MeasureColumn[]
  mayBeLog: boolean
}

/** Bars per task: all accuracies, or all perplexities if there are none. */
export function taskBars(
  subjects: readonly Subject[],
  columns: readonly MeasureColumn[],
  styleOf: (method: string) => SeriesStyle,
): TaskBars {
  const accuracies = columns.filter(({ name }) => /^accuracy/.test(name))
  const shown = accuracies.length > 0 ? accuracies : columns.filter(({ name }) => name === 'perplexity')
  const groups = shown.flatMap((column): BarGroup[] => {
    const title = [subjectTitle(column.dataset), column.name.replace(/^(accuracy|perplexity) ?/, '')].filter(Boolean).join(', ')
    const windows = windowsNotes(subjects, column)
    const measured = subjects.filter(({ measures }) => measures.has(column.id))
    return [...Map.groupBy(measured, (subject) => windows.get(subject))].map(([note, own]) => ({
      title: [title || column.name, note].filter(Boolean).join(', '),
      bars: own.flatMap(({ id, label, method, measures }) => {
        const { mean, spread, factor } = measures.get(column.id) ?? {}
        if (mean === undefined || spread === undefined) return []
        return [{ id, label, color: styleOf(method).color, value: mean, error: spread, factor }]
      }),
    }))
  })
  const hasAccuracies = accuracies.length > 0
  return {
    title: hasAccuracies ? 'Accuracy per task' : 'Perplexity per data set',
    measure: hasAccuracies ? 'accuracy' : 'perplexity',
    groups,
    errors: errorNote('Lines', subjects, shown),
    unit: shown[0]?.unit ?? '',
    columns: shown,
    mayBeLog: !hasAccuracies,
  }
}

/** The mark of every unpruned file: rivals have a shape that no pruned file has. */
export const rivalStyle: SeriesStyle = { color: 'var(--ink-soft)', shape: 'square' }

/** Pruned files look as in the overview, except that no method has the rivals' square. */
export const prunedStyle = ({ color, shape }: SeriesStyle): SeriesStyle => ({ color, shape: shape === 'square' ? 'circle' : shape })

/** The text or task to show: the requested one, else one that decides, else the first. */
export function shownFront(fronts: readonly Front[], requested: string | undefined): Front | undefined {
  return fronts.find(({ kind }) => kind === requested) ?? fronts.find(({ decides }) => decides) ?? fronts[0]
}

/** The points of all files that can be compared on a text or task. */
export function worthPoints(
  rows: readonly WorthRow[],
  { kind, apart }: Pick<Front, 'kind' | 'apart'>,
  styleOf: (method: string, repair: Treatment | null) => SeriesStyle,
): ScatterPoint[] {
  return rows.flatMap((row): ScatterPoint[] => {
    const quality = apart.some((one) => one.row === row) ? undefined : row.quality[kind]
    const style = row.pruned ? prunedStyle(styleOf(row.method, row.repair)) : rivalStyle
    const [id = row.name] = row.runs
    return quality
      ? [
          {
            ...style,
            id,
            label: row.name,
            series: row.method,
            x: row.cost.mean,
            y: quality.mean,
            size: 0.45,
            spread: quality.error,
            factor: quality.factor,
          },
        ]
      : []
  })
}
