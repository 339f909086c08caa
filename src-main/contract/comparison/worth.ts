import { cellText, shareText } from './cell-text.ts'
import { basisText, type Difference, differenceText } from './difference.ts'
import type { TaskMeasure } from './measure-columns.ts'
import type { Treatment } from './series.ts'

/** A value over seeds, with one standard error if known. With `factor`, the error is a factor (see `MeasureOverSeeds`). */
export interface Quality {
  mean: number
  error: number | null
  factor: boolean
}

/** One file, over all its seeds. */
export interface WorthRow {
  /** The runs, one for each seed. */
  runs: string[]
  name: string
  pruned: boolean
  /** Whether the bytes of a file were divided between parts and bits, and no part had to go. */
  keptWhole: boolean
  method: string
  repair: Treatment | null
  /** Null if the weights were measured as computed. */
  weights: string | null
  cost: Quality
  /** The perplexity on each kind of text, and the main measure of each task. */
  quality: Record<string, Quality>
  /** Bits per byte on each kind of text. They compare files of models with different tokenizers. */
  bits: Record<string, Quality>
  /** Share of answers that end in a loop; null if unknown. */
  loops: number | null
}

/** How a pruned file differs from its rival on one text. The difference is null if nothing shows how much the numbers vary. */
export interface TextDifference {
  kind: string
  /** Perplexity on the same windows, or bits per byte where the tokenizers differ. */
  measure: 'perplexity' | 'bits per byte'
  difference: Difference | null
}

/** How a pruned file compares with its rival, the best dense file at the same cost. */
export interface Duel {
  pruned: WorthRow
  rival: WorthRow | null
  outcome: 'better' | 'worse' | 'tie' | 'mixed' | 'no rival'
  /** The pruned file against its rival on each text that decides. */
  texts: TextDifference[]
  /** Tasks that the rival clearly does better. */
  worseTasks: string[]
  /** The share of looping answers, the pruned file's minus its rival's, on the same prompts; null if it is not known for both. */
  loops: Difference | null
  /** Whether the pruned file clearly loops more often than its rival. */
  vetoed: boolean
  /** Dense files that cannot be compared with the pruned one, and why. */
  leftOut: { name: string; reason: string }[]
}

/** The Pareto front of cost and one quality. Only perplexity on text that no choice used can decide; a part of the user's own text that was kept to decide comes before other text. */
export interface Front {
  kind: string
  measure: 'perplexity' | TaskMeasure
  decides: boolean
  /** Whether it shows what pruning for the user's own text costs on other text. */
  elsewhere: boolean
  rows: WorthRow[]
  /** Files that were measured, but cannot be compared with the others, and why. */
  apart: { row: WorthRow; reason: string }[]
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

/** Writes how a pruned file differs from its rival on a text, with the interval and what that is based on; null if it is not known. */
export function duelText({ texts }: Pick<Duel, 'texts'>, kind: string): { text: string; basis: string } | null {
  const found = texts.find((text) => text.kind === kind)
  if (!found?.difference) return null
  return { text: differenceText(found.difference), basis: `95 % interval of the ${found.measure} over ${basisText(found.difference)}` }
}

/** Writes a file's perplexity, or its share of correct answers in percent, with the standard error if it is known. */
export function qualityText({ quality }: Pick<WorthRow, 'quality'>, { kind, measure }: Pick<Front, 'kind' | 'measure'>): string {
  const own = quality[kind]
  if (!own) return '–'
  const { mean, error, factor } = own
  if (measure === 'perplexity') return cellText({ value: mean, spread: error || null, factor })
  return error ? `${cellText({ value: 100 * mean, spread: 100 * error })} %` : shareText(mean)
}
