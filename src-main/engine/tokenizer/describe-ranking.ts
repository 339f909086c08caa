import type { TokenRanking } from '#contract/pruning/token-ranking.ts'
import { type Tokenizer, tokenizerOf } from './tokenizer.ts'
import type { TokenizerFiles } from './tokenizer-files.ts'
import { trimTokenizer } from './trim-tokenizer.ts'

/** A text by which rankings are shown: how often it has each token, and its beginning. */
export interface CountedText {
  readonly name: string
  readonly counts: Float64Array
  readonly sample: string
}

/** Numbers of rows that are looked at, besides the one that was chosen. */
const pointCount = 9

/**
 * Describes what other numbers of rows would keep.
 * @param order all ids, the first to keep first
 * @param least how many of them always stay
 * @param bytesOf the bytes of the model with a number of rows
 * @param progress is called before each number of rows; ends the work if it throws
 */
export async function describeRanking(
  files: TokenizerFiles,
  { order, least, chosen, bytesOf }: { order: readonly number[]; least: number; chosen: number; bytesOf(rows: number): number },
  texts: readonly CountedText[],
  progress: (done: number, total: number) => void,
): Promise<TokenRanking> {
  const all = order.length
  const spaced = Array.from({ length: pointCount }, (_, i) => Math.round(least * (all / least) ** (i / (pointCount - 1))))
  const rows = [...new Set([...spaced, Math.min(all, chosen)])].sort((a, b) => a - b)
  const covered = texts.map(({ counts }) => coverageOf(counts, order, rows))
  const ends: number[][][] = []
  for (const [index, count] of rows.entries()) {
    progress(index, rows.length)
    const kept = order.slice(0, count).sort((a, b) => a - b)
    const tokenizer = tokenizerOf(trimTokenizer(files, kept))
    ends.push(texts.map(({ sample }) => endsOf(tokenizer, sample)))
    await new Promise(setImmediate)
  }
  return {
    texts: texts.map(({ name, counts }) => ({ name, tokens: Math.round(sumOf(counts)) })),
    points: rows.map((count, point) => ({ rows: count, bytes: bytesOf(count), covered: covered.map((shares) => shares[point] ?? 0) })),
    samples: texts.map(({ sample }, text) => ({ text: sample, ends: ends.map((ofPoint) => ofPoint[text] ?? []) })),
  }
}

const sumOf = (counts: Float64Array): number => counts.reduce((sum, count) => sum + count, 0)

/** The share of a text's tokens among the first rows of the order, for each number of rows. */
function coverageOf(counts: Float64Array, order: readonly number[], rows: readonly number[]): number[] {
  const total = sumOf(counts)
  let [sum, next] = [0, 0]
  return rows.map((count) => {
    while (next < count) sum += counts[order[next++] as number] ?? 0
    return total === 0 ? 1 : sum / total
  })
}

/** Where the tokens of a text end, in UTF-16 units. */
function endsOf(tokenizer: Tokenizer, text: string): number[] {
  const places = [...text].flatMap((character) => Array<number>(Buffer.byteLength(character)).fill(character.length))
  const sizes = tokenizer.encode(text).map((id) => tokenizer.bytesOf(id))
  // SentencePiece puts a space in front of a text.
  const spare = sizes.reduce((sum, size) => sum + size, 0) - places.length
  const ends: number[] = []
  let [unit, byte, left] = [0, 0, -spare]
  for (const size of sizes) {
    left += size
    while (byte < left && byte < places.length) {
      const length = places[byte] as number
      unit += length
      byte += Buffer.byteLength(text.slice(unit - length, unit))
    }
    ends.push(unit)
  }
  return ends
}
