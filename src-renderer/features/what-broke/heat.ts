import type { Divergence, TokenPage } from '#contract/inspection/divergence.ts'

/** The position of a token: its page, and its index in the page's lists. */
export interface TokenPlace {
  page: number
  at: number
}

/** A line of the heat map: consecutive tokens of one page. */
export interface HeatLine {
  page: number
  from: number
  to: number
}

/** Which tokens each line of the heat map shows, given tokens per page and per line. Any line is found without loading the pages before it. */
export class HeatLayout {
  readonly total: number
  readonly #starts: number[] = []
  readonly #tokens: readonly number[]
  readonly perLine: number

  constructor(tokens: readonly number[], perLine: number) {
    this.#tokens = tokens
    this.perLine = perLine
    let total = 0
    for (const count of tokens) {
      this.#starts.push(total)
      total += Math.ceil(count / perLine)
    }
    this.total = total
  }

  line(index: number): HeatLine {
    const page = this.#starts.findLastIndex((start) => start <= index)
    const from = (index - (this.#starts[page] ?? 0)) * this.perLine
    return { page, from, to: Math.min(from + this.perLine, this.#tokens[page] ?? 0) }
  }

  lineOf({ page, at }: TokenPlace): number {
    return (this.#starts[page] ?? 0) + Math.floor(at / this.perLine)
  }

  /** Moves a position by a number of tokens, backwards if negative, but not beyond the first or last token. */
  moved({ page, at }: TokenPlace, by: number): TokenPlace {
    const place = { page, at: at + by }
    while (place.at < 0 && place.page > 0) {
      place.page -= 1
      place.at += this.#tokens[place.page] ?? 0
    }
    while (place.at >= (this.#tokens[place.page] ?? 0) && place.page < this.#tokens.length - 1) {
      place.at -= this.#tokens[place.page] ?? 0
      place.page += 1
    }
    return { page: place.page, at: Math.min(Math.max(0, place.at), Math.max(0, (this.#tokens[place.page] ?? 1) - 1)) }
  }
}

/** The divergence that is drawn in full colour: the highest 95th percentile of any run, at least 0.05. */
export function fullHeat(divergence: Divergence | null): number {
  return Math.max(0.05, ...(divergence?.runs.map(({ numbers }) => numbers.p95.value) ?? [1]))
}

/** Strength of the colour, 0 to 1 in steps of 0.05. The square root keeps small divergences visible. */
export function heatOf(divergence: number, full: number): number {
  return Math.round(Math.sqrt(Math.min(1, divergence / full)) * 20) / 20
}

/** Makes a token visible: line breaks, tabs and tokens of only spaces become symbols. */
export function shownText(text: string): string {
  if (text === '') return '·'
  return text
    .replaceAll('\r', '')
    .replaceAll('\n', '↵')
    .replaceAll('\t', '⇥')
    .replace(/^ +$/, (spaces) => '␣'.repeat(spaces.length))
}

export interface Alternative {
  text: string
  probability: number
}

/** The likeliest tokens at a position, of the dense model or of a run. */
export function alternativesAt(page: TokenPage, of: { top: readonly number[]; probability: readonly number[] }, at: number): Alternative[] {
  return Array.from({ length: page.alternatives }, (_, rank) => {
    const index = at * page.alternatives + rank
    return { text: page.pieces[String(of.top[index] ?? '')] ?? '', probability: of.probability[index] ?? 0 }
  })
}

/** The window of a token and its position in that window, both counted from 1. */
export function positionOf(page: TokenPage, at: number): { window: number; position: number } {
  let first = 0
  for (const { window, tokens } of page.windows) {
    if (at < first + tokens) return { window: window + 1, position: at - first + 1 }
    first += tokens
  }
  return { window: 0, position: 0 }
}
