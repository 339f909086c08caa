import { changeText } from '#contract/comparison/change.ts'
import { bestOf, deltaOf } from '#contract/comparison/comparison.ts'
import type { MeasureColumn } from '#contract/comparison/measure-columns.ts'
import { noiseLevel } from '#contract/comparison/paired.ts'
import { isPerToken, tokenGroups } from '#contract/comparison/same-tokens.ts'
import { standardError } from '#contract/comparison/seeds.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { parameterText, parameterTitle } from '#contract/runs/parameter-titles.ts'
import { comparedValue, isTimed, noiseOfTimes } from '#contract/runs/time/speed.ts'
import { areComparable, usedModelOf } from '#contract/runs/used-model.ts'
import { formatEstimate, formatMeasure, formatShare, formatValue } from '../../lib/format.ts'
import { describeSource, describeWindows, shortHash } from '../../lib/runs/used-data.ts'
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
  /** Why the difference may mean nothing: chance, or a busy machine. */
  noise?: string
  best: boolean
}

/** Properties of the comparison table, whichever way it is turned. */
export interface TableProps {
  subjects: Subject[]
  baseline: Subject | null
  lines: ComparisonLine[]
  highlighted: string | null
  onopen: (id: string) => void
  onpin: (id: string) => void
  onremove: (ids: string[]) => void
}

type Tokens = ReturnType<typeof tokenGroups>

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
  const tokens = tokenGroups(subjects.flatMap(({ runs }) => runs))
  return [
    ...columns.map((column) => measureLine(subjects, baseline, column, tokens)),
    ...facts(
      ['reached', 'Reached', ({ reached }) => share(reached)],
      ['method', 'Method', ({ method }) => titles.method(method)],
      ['model', 'Model', ({ runs }) => runs[0]?.model.name ?? ''],
      ['nominal', 'Sparsity', ({ nominal }) => share(nominal)],
      ['seed', 'Seed', ({ runs }) => seedsText(runs.map(({ seed }) => seed))],
      ['calibration', 'Calibrated on', ({ runs }) => usedText(runs.flatMap(({ calibration }) => calibration ?? []))],
      ['evaluation', 'Measured on', ({ runs }) => usedText(runs.flatMap(({ evaluation }) => evaluation))],
    ),
    ...parameterNames(subjects).map((name) => {
      const method = subjects.find(({ runs }) => runs[0]?.parameters[name] !== undefined)?.method ?? ''
      const values = subjects.map(({ runs }) => parameterText(name, runs[0]?.parameters[name]))
      return plainLine(`parameter:${name}`, parameterTitle(name) ?? titles.option(method, name), 'parameter', values)
    }),
  ]
}

/** A value and its deviation with the digits that fit it. */
function estimateText({ mean, spread }: { mean: number; spread: number | null }, unit: string): { text: string; spread: string } {
  if (!spread) return { text: formatMeasure(mean, unit), spread: '' }
  const { value, error } = formatEstimate(mean, spread, unit)
  return { text: value, spread: `± ${error}` }
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

/** Whether a measure can be compared with the baseline's: if both used one model, its content is equal; perplexities count equal tokens. */
function isComparable({ runs: [run] }: Subject, baseline: Subject | null, { name }: MeasureColumn, tokens: Tokens): boolean {
  const [dense] = baseline?.runs ?? []
  if (!run || !dense) return true
  return (
    areComparable(usedModelOf(run), usedModelOf(dense)) && (!isPerToken(name) || tokens.get(run.model.id) === tokens.get(dense.model.id))
  )
}

function measureLine(subjects: readonly Subject[], baseline: Subject | null, column: MeasureColumn, tokens: Tokens): ComparisonLine {
  const rivals = subjects.filter((subject) => subject !== baseline && !subject.baseline)
  const best = bestOf(rivals, column, tokens)
  const meanOf = (subject: Subject | null) => (id: string) => subject?.measures.get(id)?.mean
  const dense = baseline?.runs.every((run) => run.baseline) ?? false
  const cells = subjects.map((subject): ComparisonCell => {
    const value = subject.measures.get(column.id)
    if (!value) return { text: '–', spread: '', delta: null, best: false }
    const reference =
      subject === baseline || !isComparable(subject, baseline, column, tokens)
        ? undefined
        : comparedValue(column, value.mean, meanOf(subject), meanOf(baseline), dense)
    const compared = reference === undefined ? null : deltaOf(value.mean, reference, column.lowerIsBetter)
    return {
      ...estimateText(value, column.unit),
      delta: compared && { text: changeText(compared), better: compared.better },
      ...(isTimed(column) ? noiseOfTiming(subject) : compared ? noiseOf(subject, baseline, column) : {}),
      best: best.has(subject),
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

/** Why times of these runs should not be quoted. */
function noiseOfTiming({ runs }: Subject): { noise?: string } {
  const reasons = new Set(runs.flatMap(({ measures }) => noiseOfTimes(measures)))
  return reasons.size === 0 ? {} : { noise: `noisy: ${[...reasons].join(', and ')}` }
}

/**
 * Says so if a difference may be chance. With several seeds, that is within twice its standard error, as in the verdict. For single runs,
 * McNemar's exact test on the same questions decides.
 */
function noiseOf({ runs, measures }: Subject, baseline: Subject | null, { id, name, dataset }: MeasureColumn): { noise?: string } {
  const [own, other] = [measures.get(id), baseline?.measures.get(id)]
  if (own && other && Math.max(own.count, other.count) > 1) {
    const error = Math.hypot(standardError(own) ?? 0, standardError(other) ?? 0)
    return error > 0 && Math.abs(own.mean - other.mean) <= 2 * error ? { noise: 'within noise: at most two standard errors' } : {}
  }
  const paired = runs[0]?.paired.find(({ task, measure }) => task === dataset && measure === name)
  if (!paired) return {}
  const { gained, lost, probability } = paired
  return probability < noiseLevel ? {} : { noise: `within noise: ${gained} became right, ${lost} wrong, p ${formatValue(probability)}` }
}

function parameterNames(subjects: readonly Subject[]): string[] {
  const hidden = new Set(['seed', 'method', 'model', 'sparsity', 'amount.sparsity'])
  return [...new Set(subjects.flatMap(({ runs }) => Object.keys(runs[0]?.parameters ?? {})))].filter((name) => !hidden.has(name)).sort()
}
