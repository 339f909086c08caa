import { EspalierError } from '#contract/errors.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { shuffle } from './shuffle.ts'
import { limitDocuments, openSource } from './source.ts'

/** Token ids to run a model on, one array of T ids per window. */
export type Windows = readonly Int32Array[]

export interface WindowOptions {
  /** Tokens per window. */
  sequenceLength: number
  /** Windows to take, by default all there are. */
  maxWindows?: number
  /** Documents to take from the start of the source, by default all. */
  maxDocuments?: number
  /** What stands between two documents, by default two newlines. */
  separator?: string
  /** Puts the documents taken in an order drawn from this seed; without it they stay as they are. */
  shuffleSeed?: number
}

export interface WindowsRead {
  windows: Windows
  /** Tokens that were encoded: of the whole text, unless enough windows were found before its end. */
  tokens: number
}

/**
 * Windows of a text source (see `openSource`): its documents joined by the separator, encoded once without special tokens, cut into
 * consecutive windows from token 0, the tail dropped. An array of arrays of token ids is used as windows as it stands.
 * Gives fewer than `maxWindows` when the source has fewer; throws `invalid` when it has less than one.
 */
export async function readWindows(path: string, tokenizer: Tokenizer | undefined, options: WindowOptions): Promise<WindowsRead> {
  const { sequenceLength, maxWindows = Number.POSITIVE_INFINITY } = options
  const source = await openSource(path)
  if (source.kind === 'windows') {
    const windows = source.windows.slice(0, maxWindows)
    return { windows, tokens: windows.reduce((sum, { length }) => sum + length, 0) }
  }
  const ids = source.kind === 'ids' ? source.ids : await encodeDocuments(source.documents(), need(tokenizer, path), options)
  if (ids.length < sequenceLength) {
    const advice = ids.length >= 2 ? ` or a sequence length of at most ${ids.length}` : ''
    throw new EspalierError(
      'invalid',
      `${path} gives ${ids.length} tokens, one window needs ${sequenceLength}. Use a longer text${advice}.`,
    )
  }
  return { windows: cutWindows(ids, sequenceLength, maxWindows), tokens: ids.length }
}

/** Consecutive windows of `sequenceLength` ids from the first on; the tail that fills none is dropped. */
export function cutWindows(ids: ArrayLike<number>, sequenceLength: number, maxWindows = Number.POSITIVE_INFINITY): Int32Array[] {
  if (!Number.isInteger(sequenceLength) || sequenceLength < 2) {
    throw new EspalierError('usage', `A sequence length of ${sequenceLength} is not possible. Choose a whole number from 2.`)
  }
  const count = Math.min(Math.floor(ids.length / sequenceLength), maxWindows)
  return Array.from({ length: count }, (_, window) => {
    return Int32Array.from({ length: sequenceLength }, (_, i) => ids[window * sequenceLength + i] as number)
  })
}

// Text is encoded when this many characters wait, so that reading stops soon after enough tokens are there.
const fewestWaiting = 65536

/** Ids of the joined documents, up to at least as many as the windows asked for need. */
async function encodeDocuments(documents: AsyncIterable<string>, tokenizer: Tokenizer, options: WindowOptions): Promise<number[]> {
  const { sequenceLength, maxWindows = Number.POSITIVE_INFINITY, separator = '\n\n' } = options
  const needed = sequenceLength * maxWindows
  const ids: number[] = []
  let waiting: string | undefined
  let encodeFrom = fewestWaiting
  for await (const document of orderDocuments(documents, options)) {
    waiting = waiting === undefined ? document : waiting + separator + document
    if (waiting.length < encodeFrom) continue
    // More text may follow, so the last piece keeps waiting: what is encoded now is what the whole text would give.
    const pieces = tokenizer.split(waiting)
    waiting = pieces.pop()
    encodeFrom = Math.max(fewestWaiting, 2 * (waiting?.length ?? 0))
    for (const piece of pieces) {
      append(ids, tokenizer.encode(piece))
      if (ids.length >= needed) return ids
    }
  }
  for (const piece of tokenizer.split(waiting ?? '')) {
    append(ids, tokenizer.encode(piece))
    if (ids.length >= needed) return ids
  }
  return ids
}

function append(ids: number[], more: readonly number[]): void {
  for (const id of more) ids.push(id)
}

async function* orderDocuments(documents: AsyncIterable<string>, { maxDocuments, shuffleSeed }: WindowOptions): AsyncGenerator<string> {
  const limited = limitDocuments(documents, maxDocuments)
  if (shuffleSeed === undefined) yield* limited
  else yield* shuffle(await Array.fromAsync(limited), shuffleSeed)
}

function need(tokenizer: Tokenizer | undefined, path: string): Tokenizer {
  if (tokenizer) return tokenizer
  throw new EspalierError(
    'invalid',
    `${path} is text, but the model has no tokenizer. Place its tokenizer.json in the model's folder, or give token ids.`,
  )
}
