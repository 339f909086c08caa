import type { Divergence, TokenPage } from '#contract/comparison/divergence.ts'

/** Where a token is: the page, and its place in the page's lists. */
export interface TokenPlace {
  page: number
  at: number
}

/** A line of the heat map: some tokens of one page that follow each other. */
export interface HeatLine {
  page: number
  from: number
  to: number
}

/** Lines of each page, from tokens a page and tokens a line: all of it is arithmetic, so that any line is found without those before it. */
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

  /** The place some tokens further on; the ends are kept to. */
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

/** The divergence that is drawn in full colour: about the worst twentieth of the worst run. */
export function fullHeat(divergence: Divergence | null): number {
  return Math.max(0.05, ...(divergence?.runs.map(({ numbers }) => numbers.p95.value) ?? [1]))
}

/** The share of colour of a divergence, in steps of a twentieth; small ones show too. */
export function heatOf(divergence: number, full: number): number {
  return Math.round(Math.sqrt(Math.min(1, divergence / full)) * 20) / 20
}

/** A token as it can be seen: breaks and lone spaces have signs. */
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

/** The likeliest tokens at a place, of the dense model or of a run. */
export function alternativesAt(page: TokenPage, of: { top: readonly number[]; probability: readonly number[] }, at: number): Alternative[] {
  return Array.from({ length: page.alternatives }, (_, place) => {
    const index = at * page.alternatives + place
    return { text: page.pieces[String(of.top[index] ?? '')] ?? '', probability: of.probability[index] ?? 0 }
  })
}

/** The window and the position in it of a place, counted from 1. */
export function positionOf(page: TokenPage, at: number): { window: number; position: number } {
  let first = 0
  for (const { window, tokens } of page.windows) {
    if (at < first + tokens) return { window: window + 1, position: at - first + 1 }
    first += tokens
  }
  return { window: 0, position: 0 }
}
