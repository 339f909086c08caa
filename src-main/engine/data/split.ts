import { createHash } from 'node:crypto'
import type { TextSplit } from '#contract/data/data-request.ts'
import { type Documents, separator } from './source.ts'

/** The share of a text that decides, by its characters, and the most that it may be. */
export const decidingShare = 0.2
const mostShare = 0.25
/** If one document is more than this share of a text, documents are cut into this many passages, and these are split. */
const [mostOfOne, passages, shortestPassage] = [0.75, 20, 200]
/** Fewer windows in a part cannot choose or decide anything. */
export const leastSplitWindows = 4

/** One part of a split text, and how it was split. */
export interface SplitText {
  readonly documents: () => AsyncIterable<string>
  /** Documents, or passages of the only document, in this part. */
  readonly count: number
  readonly byPassage: boolean
}

/**
 * Returns one part of a text, in its order. Documents are drawn by a hash of their content and the seed until about a fifth of the text
 * decides. So a part does not depend on names or order, and equal documents are in one part. A text of one document, or nearly, is split
 * by passage.
 */
export async function splitText({ documents }: Pick<Documents, 'documents'>, split: TextSplit): Promise<SplitText> {
  const whole = await sizesOf(documents(), split)
  const byPassage = Math.max(...whole.values()) > mostOfOne * totalOf(whole)
  const pieces = byPassage ? () => passagesOf(documents()) : documents
  const decides = drawDeciding(byPassage ? await sizesOf(pieces(), split) : whole)
  const isIn = (document: string) => document.trim() !== '' && decides.has(keyOf(document, split)) === (split.part === 'deciding')
  let count = 0
  for await (const piece of pieces()) if (isIn(piece)) count++
  return {
    documents: async function* () {
      for await (const piece of pieces()) if (isIn(piece)) yield piece
    },
    count,
    byPassage,
  }
}

const totalOf = (sizes: ReadonlyMap<string, number>): number => [...sizes.values()].reduce((sum, size) => sum + size, 0)

const keyOf = (document: string, { seed }: TextSplit): string => createHash('sha256').update(`${seed}\n${document}`).digest('hex')

/** The characters of each different document, by its key. */
async function sizesOf(documents: AsyncIterable<string>, split: TextSplit): Promise<Map<string, number>> {
  const sizes = new Map<string, number>()
  for await (const document of documents) {
    if (document.trim() === '') continue
    const key = keyOf(document, split)
    sizes.set(key, (sizes.get(key) ?? 0) + document.length)
  }
  return sizes
}

/** Draws the documents that decide. A document that is too large for the share is passed over; if all are, the smallest decides. */
function drawDeciding(sizes: ReadonlyMap<string, number>): Set<string> {
  const total = totalOf(sizes)
  const drawn = new Set<string>()
  let taken = 0
  for (const [key, size] of [...sizes].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (taken >= decidingShare * total || taken + size > mostShare * total) continue
    drawn.add(key)
    taken += size
  }
  const [smallest] = [...sizes].sort(([a, one], [b, other]) => one - other || (a < b ? -1 : 1))
  return drawn.size > 0 || sizes.size < 2 || !smallest ? drawn : new Set([smallest[0]])
}

/** Cuts documents into passages of about equal length that end where paragraphs or lines do. */
async function* passagesOf(documents: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const document of documents) {
    const length = Math.max(shortestPassage, Math.ceil(document.length / passages))
    for (let from = 0; from < document.length; ) {
      const to = endAfter(document, from + length)
      yield document.slice(from, to)
      from = to
    }
  }
}

/** Cuts documents, joined, into stretches of about this many characters that end where paragraphs or lines do. */
export async function* stretchesOf(documents: AsyncIterable<string>, characters: number): AsyncGenerator<string> {
  let waiting = ''
  for await (const document of documents) {
    waiting += waiting === '' ? document : separator + document
    while (waiting.length > 2 * characters) {
      const to = endAfter(waiting, characters)
      yield waiting.slice(0, to)
      waiting = waiting.slice(to)
    }
  }
  if (waiting !== '') yield waiting
}

/** The end of the paragraph around a place, else of the line, else the place itself. Nothing far behind it is searched. */
function endAfter(text: string, place: number): number {
  if (place >= text.length) return text.length
  const near = text.slice(place, place + 1000)
  const [paragraph, line] = [near.indexOf('\n\n'), near.indexOf('\n')]
  if (paragraph >= 0) return place + paragraph + 2
  return line >= 0 ? place + line + 1 : place
}
