import { bestOf, markOf } from '#contract/comparison/best-results.ts'
import { cellText, placesOf, spreadText } from '#contract/comparison/cell-text.ts'
import { changeText, deltaOf } from '#contract/comparison/change.ts'
import { whyResultsApart } from '#contract/comparison/comparable.ts'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { windowsNotes } from '#contract/comparison/comparison-table.ts'
import { basisText, differenceOf, differenceText } from '#contract/comparison/difference.ts'
import type { MeasureColumn } from '#contract/comparison/measure-columns.ts'
import { intervalOf } from '#contract/comparison/seeds.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { parameterText, parameterTitle } from '#contract/runs/parameter-titles.ts'
import { comparedValue, isTimed, noiseOfTimes } from '#contract/runs/time/speed.ts'
import { formatEstimate, formatMeasure, formatShare } from '../../lib/format.ts'
import { describeSource, describeWindows, requestedWindows, shortHash } from '../../lib/runs/used-data.ts'
import { columnTitle, type Subject } from './subjects.ts'

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
  /** The difference with its 95 % interval. */
  interval?: string
  /** Why the difference may mean nothing: chance, or a busy machine. */
  noise?: string
  /** Why the value is not compared with the baseline's. */
  apart?: string
  /** What it was measured on, if others of its column were measured on something else. */
  windows?: string
  best: boolean
  /** Whether others are as good: they do not differ clearly. */
  tied?: boolean
}

/** Properties of the comparison table, transposed or not. */
export interface TableProps {
  subjects: Subject[]
  baseline: Subject | null
  lines: ComparisonLine[]
  highlighted: string | null
  onopen: (id: string) => void
  onpin: (id: string) => void
  onremove: (ids: string[]) => void
}

const share = (value: number | null) => (value === null ? '–' : formatShare(value))

/**
 * All lines of the table for each of `subjects`: measures, then facts, then options. Deltas are relative to `baseline`, which does not
 * compete for the best.
 */
export function comparisonLines(
  subjects: readonly Subject[],
  baseline: Subject | null,
  columns: readonly MeasureColumn[],
  titles: { method: (id: string) => string; option: (method: string, name: string) => string },
): ComparisonLine[] {
  const facts = (...lines: [id: string, title: string, textOf: (subject: Subject) => string][]) =>
    lines.map(([id, title, textOf]) => plainLine(id, title, 'fact', subjects.map(textOf)))
  return [
    ...columns.map((column) => measureLine(subjects, baseline, column)),
    ...facts(
      ['reached', 'Reached', ({ reached }) => share(reached)],
      ['method', 'Method', ({ method }) => titles.method(method)],
      ['model', 'Model', ({ model }) => model],
      ['nominal', 'Sparsity', ({ nominal }) => share(nominal)],
      ['seed', 'Seed', ({ runs }) => seedsText(runs.map(({ seed }) => seed))],
      ['calibration', 'Calibrated on', ({ runs }) => calibrationText(runs)],
      ['evaluation', 'Measured on', ({ runs }) => usedText(runs.flatMap(({ evaluation }) => evaluation))],
    ),
    ...parameterNames(subjects).map((name) => {
      const method = subjects.find(({ runs }) => runs[0]?.parameters[name] !== undefined)?.method ?? ''
      const values = subjects.map(({ runs }) => parameterText(name, runs[0]?.parameters[name]))
      return plainLine(`parameter:${name}`, parameterTitle(name) ?? titles.option(method, name), 'parameter', values)
    }),
  ]
}

/** Whether a measure is a quality, which has a 95 % interval, instead of a time or a size. */
export const isQuality = ({ unit }: MeasureColumn): boolean => unit === '' || unit === 'share'

/** Values with their 95 % intervals and equal decimals, or times with their deviation. */
function estimateTexts(subjects: readonly Subject[], column: MeasureColumn): { text: string; spread: string }[] {
  const { id, unit } = column
  const isShare = unit === 'share'
  const scale = isShare ? 100 : 1
  const cells = subjects.map((subject) => {
    const { mean = Number.NaN, spread = null, factor = false } = subject.measures.get(id) ?? {}
    const { low, high } = (isQuality(column) && intervalOf(subject, id)) || {}
    const interval = low === undefined || high === undefined ? {} : { low: scale * low, high: scale * high }
    return { value: scale * mean, mean, spread, factor, ...interval }
  })
  const places = isQuality(column) ? placesOf(cells) : undefined
  return cells.map(({ mean, spread, factor, ...cell }) => {
    if (cell.low !== undefined) {
      const [text = '', own = ''] = cellText(cell, places).split(' [')
      return { text, spread: `[${own}${isShare ? ' %' : ''}` }
    }
    if (isQuality(column) && !spread && places !== undefined) return { text: `${cellText(cell, places)}${isShare ? ' %' : ''}`, spread: '' }
    if (!spread) return { text: formatMeasure(mean, unit), spread: '' }
    if (factor) {
      const [text = '', own = ''] = spreadText(mean, spread, true).split(' ×/÷ ')
      return { text, spread: `×/÷ ${own}` }
    }
    const { value, error } = formatEstimate(mean, spread, unit)
    return { text: value, spread: `± ${error}` }
  })
}

function plainLine(id: string, title: string, kind: 'fact' | 'parameter', values: string[]): ComparisonLine {
  const cells = values.map((text) => ({ text, spread: '', delta: null, best: false }))
  return { id, title, kind, column: null, cells, differs: new Set(values).size > 1 }
}

const seedsText = (seeds: number[]) => seeds.sort((a, b) => a - b).join(', ')

/** Names each set of windows once. Sets of the same text and size share an entry with all their hashes. */
function usedText(data: readonly UsedData[]): string {
  const hashes = new Map<string, Set<string>>()
  for (const used of data) {
    const words = `${describeSource(used)}: ${describeWindows({ ...used, seed: 0 })}`
    hashes.set(words, (hashes.get(words) ?? new Set()).add(shortHash(used)))
  }
  return [...hashes].map(([words, all]) => `${words} (${[...all].join(', ')})`).join('; ') || '–'
}

/** What was used, and how many windows were requested if that is another number. */
function calibrationText(runs: readonly ComparedRun[]): string {
  const used = runs.flatMap(({ calibration }) => calibration ?? [])
  const asked = runs[0]?.parameters['calibration.windows']
  return `${usedText(used)}${used[0] && typeof asked === 'number' ? requestedWindows(asked, used[0]) : ''}`
}

function measureLine(subjects: readonly Subject[], baseline: Subject | null, column: MeasureColumn): ComparisonLine {
  const best = bestOf(
    subjects.filter((subject) => subject !== baseline && !subject.baseline),
    column,
    baseline,
  )
  const windows = windowsNotes(subjects, column)
  const texts = estimateTexts(subjects, column)
  const cells = subjects.map((subject, at): ComparisonCell => {
    const value = subject.measures.get(column.id)
    if (!value) return { text: '–', spread: '', delta: null, best: false }
    return {
      ...(texts[at] ?? { text: '–', spread: '' }),
      ...(subject === baseline ? { delta: null } : against(subject, baseline, column, value.mean)),
      ...(isTimed(column) ? noiseOfTiming(subject) : {}),
      ...(windows.has(subject) ? { windows: windows.get(subject) ?? '' } : {}),
      ...markOf(best.get(subject) ?? 0),
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

/** A value compared with the baseline's: the change, its interval, and whether it is clear; or why it is not compared. */
function against(
  subject: Subject,
  baseline: Subject | null,
  column: MeasureColumn,
  mean: number,
): Pick<ComparisonCell, 'delta' | 'interval' | 'noise' | 'apart'> {
  if (!baseline?.measures.has(column.id)) return { delta: null }
  const apart = whyResultsApart(subject, baseline, [column])
  if (apart !== null) return { delta: null, apart: `Not compared with the baseline: ${apart}` }
  const meanOf = (of: Subject) => (id: string) => of.measures.get(id)?.mean
  const isDense = baseline.runs.every((run) => run.baseline)
  const reference = comparedValue(column, mean, meanOf(subject), meanOf(baseline), isDense)
  if (reference === undefined) return { delta: null }
  const change = deltaOf(mean, reference, column.lowerIsBetter)
  const delta = { text: changeText(change), better: change.better }
  const difference = isTimed(column) ? null : differenceOf(subject, baseline, column)
  if (!difference) return { delta }
  const interval = `${differenceText(difference, column.unit)}, 95 % interval over ${basisText(difference)}`
  return { delta, interval, ...(difference.clear ? {} : { noise: `No clear difference: ${interval}` }) }
}

/** Why times of these runs should not be quoted. */
function noiseOfTiming({ runs }: Subject): { noise?: string } {
  const reasons = new Set(runs.flatMap(({ measures }) => noiseOfTimes(measures)))
  return reasons.size === 0 ? {} : { noise: `noisy: ${[...reasons].join(', and ')}` }
}

function parameterNames(subjects: readonly Subject[]): string[] {
  const hidden = new Set(['seed', 'method', 'model', 'sparsity', 'amount.sparsity'])
  return [...new Set(subjects.flatMap(({ runs }) => Object.keys(runs[0]?.parameters ?? {})))].filter((name) => !hidden.has(name)).sort()
}
