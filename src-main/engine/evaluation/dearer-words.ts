import type { DearerWord } from '#contract/pruning/token-ranking.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { readLosses } from './perplexity.ts'

/** A model with its tokenizer, and windows of a text as it reads them. */
export interface Reading {
  readonly view: ModelView
  readonly tokenizer: Tokenizer
  readonly windows: Windows
}

/** Words that cost this much more in total, in bits, are listed, at most so many. */
const [leastBits, mostWords] = [0.5, 100]

/**
 * The words of a text whose bits rose the most in total, the most expensive first. Both models read the same text, so a word has the bits of
 * all tokens that end in it. The first word of a window is left out, because its first token is not predicted.
 */
export async function dearerWords(before: Reading, after: Reading, report: { signal?: AbortSignal } = {}): Promise<DearerWord[]> {
  const [cheap, dear] = [await bitsOfWords(before, report), await bitsOfWords(after, report)]
  const sums = new Map<string, DearerWord>()
  for (const [window, words] of cheap.entries()) {
    const others = dear[window] ?? []
    // A window that begins or ends within a character has no text of its own to compare.
    if (words.length !== others.length || words.some(({ word }, at) => word !== others[at]?.word)) continue
    for (const [at, { word, bits }] of words.entries()) {
      const known = sums.get(word) ?? { word, count: 0, before: 0, after: 0 }
      sums.set(word, { word, count: known.count + 1, before: known.before + bits, after: known.after + (others[at]?.bits ?? 0) })
    }
  }
  return [...sums.values()]
    .filter((one) => one.after - one.before >= leastBits)
    .sort((one, other) => other.after - other.before - (one.after - one.before))
    .slice(0, mostWords)
}

interface Word {
  readonly word: string
  readonly bits: number
}

async function bitsOfWords({ view, tokenizer, windows }: Reading, report: { signal?: AbortSignal }): Promise<Word[][]> {
  const words: Word[][] = []
  await readLosses(view, windows, report, (losses, window) => {
    words[window] = split(tokenizer, [...(windows[window] ?? [])], [0, ...losses])
  })
  return words
}

/** Divides the losses of a window's tokens among its words, each with the space before it. */
function split(tokenizer: Tokenizer, ids: readonly number[], losses: readonly number[]): Word[] {
  const covering = ids.filter((id) => tokenizer.bytesOf(id) > 0)
  const text = tokenizer.decode(covering, { cleanUp: false })
  const pieces = text.match(/\s*\S+/gu) ?? []
  const bytes = covering.reduce((sum, id) => sum + tokenizer.bytesOf(id), 0)
  // SentencePiece drops the space that begins a text.
  const ends = pieces.map(() => 0)
  let [end, piece, place] = [bytes - Buffer.byteLength(text), 0, 0]
  for (const [at, own] of pieces.entries()) {
    end += Buffer.byteLength(own)
    ends[at] = end
  }
  const bits = pieces.map(() => 0)
  for (const [at, id] of ids.entries()) {
    place += tokenizer.bytesOf(id)
    while (piece < pieces.length - 1 && place > (ends[piece] ?? 0)) piece++
    bits[piece] = (bits[piece] ?? 0) + (losses[at] ?? 0) / Math.LN2
  }
  return pieces.map((own, at) => ({ word: own.trim(), bits: bits[at] ?? 0 })).slice(1)
}
