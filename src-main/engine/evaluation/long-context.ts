import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import { EspalierError } from '#contract/errors.ts'
import type { TakenMeasure } from '#contract/runs/measures.ts'
import type { Windows } from '#engine/data/windows.ts'
import { requireFinite } from '#engine/model/finite.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { complete } from './generation/answer.ts'
import { readLosses } from './perplexity.ts'
import { share, shareMeasure } from './tasks/accuracy.ts'

/** Shares of a window: the ends of the parts that it is divided into, and the lengths of the texts that hide a number. */
const shares = [0.25, 0.5, 1]
/** The depths in a text at which a number is hidden, as in the needle tests of long-context benchmarks (RULER, arXiv 2404.06654). */
const depths = [0, 0.25, 0.5, 0.75, 1]
/** The number of texts of each length. */
export const needleTexts = depths.length
const places = ['Lisbon', 'Oslo', 'Nairobi', 'Quito', 'Hanoi']

/** The minimum number of tokens in a window, so that each of its parts predicts one. */
const leastWindow = 8

interface Report {
  readonly signal?: AbortSignal
  progress?(done: number, total: number): void
}

/** The lengths of a quarter, a half and the whole of a window. */
export const lengthsUpTo = (longest: number): number[] => shares.map((share) => Math.floor(share * longest))

/**
 * Measures the perplexity of the windows' first quarter, second quarter and second half. It rises with the position if a model cannot use
 * long text.
 */
export async function perplexityByPosition(view: ModelView, windows: Windows, name: string, report: Report = {}): Promise<TakenMeasure[]> {
  const length = Math.min(...windows.map((window) => window.length))
  if (length < leastWindow)
    throw new EspalierError(
      'invalid',
      `Perplexity by position needs windows of at least ${leastWindow} tokens, but a window of ${name} has ${length}. Use a longer text.`,
    )
  const ends = lengthsUpTo(length)
  const starts = [1, ...ends.slice(0, -1)]
  const byPart = ends.map(() => windows.map(() => Number.NaN))
  await readLosses(view, windows, report, (losses, window) => {
    for (const [part, end] of ends.entries()) at(byPart, part)[window] = meanOf(losses.subarray(at(starts, part) - 1, end - 1))
  })
  return ends.map((end, part) => {
    const losses = at(byPart, part)
    const value = Math.exp(meanOf(losses))
    requireFinite([value], `The perplexity by position on ${name}`)
    return { name: `perplexity, tokens ${part === 0 ? 1 : at(starts, part) + 1} to ${end}`, dataset: name, value, unit: '', losses }
  })
}

/** A text that hides a number and ends with a question for it. */
export interface Needle {
  readonly prompt: readonly number[]
  readonly number: string
}

/**
 * Makes texts from the beginning of a window, one for each depth. Each has `length` tokens including the answer, and starts with the token
 * `begin` if the model needs it. Empty if `length` leaves too little room for text around the number.
 */
export function hideNeedles(window: Int32Array, length: number, tokenizer: Pick<Tokenizer, 'encode'>, begin?: number): Needle[] {
  const start = begin === undefined ? [] : [begin]
  return depths.flatMap((depth, index) => {
    const number = String(10_007 + 17_389 * index)
    const question = `\nThe door code of ${at(places, index)} is`
    const [hidden, asked] = [tokenizer.encode(`${question} ${number}.\n`), tokenizer.encode(question)]
    const room = length - start.length - hidden.length - asked.length - answerTokens(tokenizer, number)
    if (room < hidden.length) return []
    const before = Math.round(depth * room)
    return [{ number, prompt: [...start, ...window.subarray(0, before), ...hidden, ...window.subarray(before, room), ...asked] }]
  })
}

const answerTokens = ({ encode }: Pick<Tokenizer, 'encode'>, number: string): number => encode(` ${number}.`).length

/** Whether the model answers with the right number, for each text, when it continues with its likeliest tokens. */
export async function findNeedles(
  view: ModelView,
  needles: readonly Needle[],
  tokenizer: Tokenizer,
  report: Report = {},
): Promise<boolean[]> {
  const found: boolean[] = []
  for (const { prompt, number } of needles) {
    report.progress?.(found.length, needles.length)
    const tokens = answerTokens(tokenizer, number)
    const answer = await complete(view, tokenizer, prompt, { tokens, stops: [], signal: report.signal })
    found.push(answer.includes(number))
  }
  report.progress?.(needles.length, needles.length)
  return found
}

/** The measure for texts of one length: the share of numbers that the model found. */
export function foundMeasure(length: number, found: readonly boolean[], name: string): TakenMeasure {
  return shareMeasure(`numbers found in ${length} tokens`, name, share(found))
}
