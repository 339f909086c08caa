import { EspalierError } from '#contract/errors.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { underLimits } from '../limits/reading.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { countDocuments, drawDocuments } from './draw.ts'
import { Encoding, type EncodingReport } from './encoding.ts'
import type { KindFilter } from './json-lines.ts'
import { limitDocuments, openSource } from './source.ts'

/** Token ids to run a model on, one array of T ids per window. */
export type Windows = readonly Int32Array[]

interface WindowOptions {
  /** Tokens per window. */
  sequenceLength: number
  /** Windows to take. Default: all. */
  maxWindows?: number
  /** Documents to take from the start of the source. Default: all. */
  maxDocuments?: number
  /** 0, the default, reads the text in order, as the reference does. Any other seed draws a random order (see `draw.ts`). */
  seed?: number
  /** Decides which kinds of documents are read, if the source names their kinds. */
  accepts?: KindFilter
  /** Receives the progress of encoding, and can cancel it. */
  report?: EncodingReport
}

export interface WindowsRead {
  windows: Windows
  /** Encoded tokens: all of the text's, unless encoding stopped early with enough windows. */
  tokens: number
  /** Number of documents to draw from; undefined if nothing was drawn, or if the source holds token ids. */
  documents?: number
}

/**
 * Windows of a text source (see `openSource`). Its documents are joined by two newlines, encoded once without special tokens, and cut into
 * consecutive windows from token 0; the tail is dropped. An array of arrays of token ids is used as windows unchanged. Returns fewer than
 * `maxWindows` if the source has fewer. Throws `invalid` if it has none.
 */
export function readWindows(path: string, tokenizer: Tokenizer | undefined, options: WindowOptions): Promise<WindowsRead> {
  return underLimits(tokenizer ? `${path}, split by the tokenizer of the model,` : path, () => readAllWindows(path, tokenizer, options))
}

async function readAllWindows(path: string, tokenizer: Tokenizer | undefined, options: WindowOptions): Promise<WindowsRead> {
  const { sequenceLength, maxWindows = Number.POSITIVE_INFINITY, maxDocuments, seed = 0 } = options
  const source = await openSource(path, options.accepts)
  if (source.kind === 'windows') {
    const windows = (seed === 0 ? source.windows : new PythonRandom(seed).shuffle(source.windows)).slice(0, maxWindows)
    return { windows, tokens: windows.reduce((sum, { length }) => sum + length, 0) }
  }
  if (source.kind === 'ids') return { windows: cutIds(source.ids, path, options), tokens: source.ids.length }
  const encode = (documents: AsyncIterable<string>, needed: number) => new Encoding(need(tokenizer, path), needed, options).take(documents)
  const inOrder = () => limitDocuments(source.documents(), maxDocuments)
  if (seed === 0) {
    const ids = await encode(inOrder(), sequenceLength * maxWindows)
    return { windows: cutIds(ids, path, options), tokens: ids.length }
  }
  const documents = await countDocuments(inOrder())
  if (documents < 2) {
    const ids = await encode(inOrder(), Number.POSITIVE_INFINITY)
    return { windows: cutIds(ids, path, options), tokens: ids.length, documents }
  }
  const ids = await encode(drawDocuments(inOrder, documents, seed), sequenceLength * maxWindows)
  return { windows: cutIds(ids, path, { ...options, seed: 0 }), tokens: ids.length, documents }
}

/**
 * Cuts one sequence of ids into windows. Seed 0 gives consecutive windows from token 0. Other seeds draw the first token, such that the
 * same number of windows fits, and the order of the windows. A smaller count gives the first windows of a larger count.
 */
function cutIds(ids: readonly number[], path: string, { sequenceLength, maxWindows, seed = 0 }: WindowOptions): Int32Array[] {
  if (ids.length < sequenceLength) {
    const advice = ids.length >= 2 ? ` or a sequence length of at most ${ids.length}` : ''
    throw new EspalierError(
      'invalid',
      `${path} gives ${ids.length} tokens, but one window needs ${sequenceLength}. Use a longer text${advice}.`,
    )
  }
  if (seed === 0) return cutWindows(ids, sequenceLength, maxWindows)
  const random = new PythonRandom(seed)
  const offset = random.below((ids.length % sequenceLength) + 1)
  return random.shuffle(cutWindows(ids.slice(offset), sequenceLength)).slice(0, maxWindows)
}

/** Consecutive windows of `sequenceLength` ids. A tail that fills no window is dropped. */
export function cutWindows(ids: ArrayLike<number>, sequenceLength: number, maxWindows = Number.POSITIVE_INFINITY): Int32Array[] {
  if (!Number.isInteger(sequenceLength) || sequenceLength < 2) {
    throw new EspalierError('usage', `A sequence length of ${sequenceLength} is not possible. Choose a whole number of at least 2.`)
  }
  const count = Math.min(Math.floor(ids.length / sequenceLength), maxWindows)
  return Array.from({ length: count }, (_, window) => {
    return Int32Array.from({ length: sequenceLength }, (_, i) => ids[window * sequenceLength + i] as number)
  })
}

function need(tokenizer: Tokenizer | undefined, path: string): Tokenizer {
  if (tokenizer) return tokenizer
  throw new EspalierError(
    'invalid',
    `${path} is text, but the model has no tokenizer. Place its tokenizer.json in the model's folder, or give token ids.`,
  )
}
