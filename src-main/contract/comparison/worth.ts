import { cellText } from './cell-text.ts'
import type { TaskMeasure } from './measure-columns.ts'
import type { Treatment } from './series.ts'

/** A value over seeds, with one standard error if known. */
export interface Quality {
  mean: number
  error: number | null
}

/** One file, over all its seeds. */
export interface WorthRow {
  /** The runs, one for each seed. */
  runs: string[]
  name: string
  pruned: boolean
  method: string
  repair: Treatment | null
  /** Null if the weights were measured as computed. */
  weights: string | null
  cost: Quality
  /** The perplexity on each kind of text, and the main measure of each task. */
  quality: Record<string, Quality>
  /** Share of answers that end in a loop; null if unknown. */
  loops: number | null
}

/** How a pruned file compares with its rival, the best dense file at the same cost. */
export interface Duel {
  pruned: WorthRow
  rival: WorthRow | null
  outcome: 'better' | 'worse' | 'tie' | 'mixed' | 'no rival'
  /** Tasks that the rival clearly does better. */
  worseTasks: string[]
  /** Whether the pruned file loops more often than the dense model. */
  vetoed: boolean
  /** Whether looping is known for both the pruned file and the dense model. */
  loopsKnown: boolean
}

/** The Pareto front of cost and one quality. Only perplexity on text that no choice used can decide. */
export interface Front {
  kind: string
  measure: 'perplexity' | TaskMeasure
  decides: boolean
  rows: WorthRow[]
}

const outcomes: Record<Duel['outcome'], string> = {
  better: 'better',
  worse: 'worse',
  tie: 'no clear difference',
  mixed: 'better on some texts only',
  'no rival': 'no rival',
}

/** Words the outcome for a pruned file. */
export function outcomeText({ outcome, vetoed }: Duel): string {
  return vetoed && outcome === 'better' ? 'better, but its answers loop' : outcomes[outcome]
}

/** Writes a file's perplexity, or its share of correct answers in percent, with the standard error if it is known. */
export function qualityText({ quality }: WorthRow, { kind, measure }: Pick<Front, 'kind' | 'measure'>): string {
  const own = quality[kind]
  if (!own) return '–'
  const { mean, error } = own
  if (measure === 'perplexity') return cellText({ value: mean, spread: error || null })
  return `${error ? cellText({ value: 100 * mean, spread: 100 * error }) : (100 * mean).toFixed(1)} %`
}
