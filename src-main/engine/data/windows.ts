import type { TextSplit } from '#contract/data/data-request.ts'
import { EspalierError } from '#contract/errors.ts'
import { underLimits } from '#engine/limits/reading.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { Encoding, type EncodingReport } from './encoding.ts'
import { type Documents, type KindFilter, limitDocuments, openSource, type TextSource } from './source.ts'
import { decidingShare, leastSplitWindows, type SplitText, splitText, stretchesOf } from './split.ts'

/** How many documents the first pass over the source holds in memory. Each further pass holds twice as many. */
const firstHeld = 1024

/** Counts the documents. */
async function countDocuments(documents: AsyncIterable<string>): Promise<number> {
  let count = 0
  for await (const _ of documents) count++
  return count
}

/**
 * The documents in the order that the 2SSP reference draws: CPython's `random.shuffle` of their indices after `random.seed(seed)`. The
 * source is read again for every batch, so that only the documents of one batch are in memory.
 */
async function* drawDocuments(documents: () => AsyncIterable<string>, count: number, seed: number): AsyncGenerator<string> {
  const order = new PythonRandom(seed).shuffle([...Array(count).keys()])
  for (let held = firstHeld; order.length > 0; held *= 2) {
    const ranks = new Map(order.splice(0, held).map((index, rank) => [index, rank]))
    const batch: string[] = []
    let index = 0
    for await (const document of documents()) {
      const rank = ranks.get(index++)
      if (rank !== undefined) batch[rank] = document
    }
    yield* batch
  }
}

/** Token ids to run a model on, one array of T ids per window. */
export type Windows = readonly Int32Array[]

interface WindowOptions {
  /** Tokens per window. */
  sequenceLength: number
  /** Windows to take. Default: all. */
  maxWindows?: number
  /** Documents to take from the start of the source. Default: all. */
  maxDocuments?: number
  /** 0, the default, reads the text in order, as the reference does. Any other seed draws a random order (see `drawDocuments`). */
  seed?: number
  /** A token that each window of a text begins with. It is one of the window's tokens. Ready windows stay as they are. */
  begin?: number | undefined
  /** Reads only one part of a text. */
  split?: TextSplit
  /** Decides which kinds of documents are read, if the source names their kinds. */
  accepts?: KindFilter
  /** Replaces ids of ready windows, if they are those of another tokenizer. */
  reread?: ((ids: Int32Array) => Int32Array) | undefined
  /** Receives the progress of encoding, and can cancel it. */
  report?: EncodingReport
}

export interface WindowsRead {
  windows: Windows
  /** Encoded tokens: all of the text's, unless encoding stopped early with enough windows. */
  tokens: number
  /** Number of documents to draw from; undefined if nothing was drawn, or if the source holds token ids. */
  documents?: number
  /** How the text was split, if only a part was read. */
  split?: Pick<SplitText, 'count' | 'byPassage'>
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
  if (options.split) return readSplit(path, tokenizer, { ...options, split: options.split })
  return readOpened(await openSource(path, options.accepts), path, tokenizer, options)
}

/** The documents, or if they have more than `count` stretches of about this many characters, so many of these, spread evenly over them. */
async function spreadStretches(
  documents: () => AsyncIterable<string>,
  count: number,
  characters: number,
): Promise<() => AsyncIterable<string>> {
  const stretches = await countDocuments(stretchesOf(documents(), characters))
  if (stretches <= count) return documents
  const chosen = new Set(spread([...Array(stretches).keys()], count))
  return async function* () {
    let index = 0
    for await (const stretch of stretchesOf(documents(), characters)) if (chosen.has(index++)) yield stretch
  }
}

/** Reads windows of one part of a text. Throws `invalid` if the part has too few to choose or decide anything. */
async function readSplit(
  path: string,
  tokenizer: Tokenizer | undefined,
  options: WindowOptions & { split: TextSplit },
): Promise<WindowsRead> {
  const source = await openSource(path, options.accepts, true)
  if (source.kind !== 'documents')
    throw new EspalierError('invalid', `${path} holds token ids, of which no part can be kept to decide. Give text.`)
  const { documents, ...split } = await splitText(source, options.split)
  const decides = options.split.part === 'deciding'
  const refuse = (tokens: number, needed: number) => {
    const pieces = `${split.count} ${split.byPassage ? 'passage' : 'document'}${split.count === 1 ? '' : 's'}`
    const whole = Math.ceil(needed / (decides ? decidingShare : 1 - decidingShare)).toLocaleString('en')
    return new EspalierError(
      'invalid',
      `The part of ${path} that ${decides ? 'is kept to decide' : 'choices are based on'} has ${tokens} tokens (${pieces}), but ${leastSplitWindows} windows need ${needed}. Give a text of about ${whole} tokens or more, or choose shorter windows.`,
    )
  }
  const limit = { least: leastSplitWindows, refuse }
  if (!decides) return { ...(await readOpened({ kind: 'documents', documents }, path, tokenizer, options, limit)), split }
  // The first windows would be of few documents. Windows that decide are the same whatever the seed of a run.
  const { maxWindows = Number.POSITIVE_INFINITY, ...all } = { ...options, seed: 0 }
  const some = await spreadStretches(documents, Math.max(leastSplitWindows, maxWindows), charactersOfWindow * ownTokens(options))
  const { windows, tokens } = await readOpened({ kind: 'documents', documents: some }, path, tokenizer, all, limit)
  return { windows: spread(windows, maxWindows), tokens, split }
}

/** Characters of a stretch for each token of a window. A token has about four, so a stretch holds a few windows. */
const charactersOfWindow = 16

/** Up to `count` of the entries, spread evenly over them. */
export function spread<Entry>(entries: readonly Entry[], count: number): Entry[] {
  const taken = Math.min(count, entries.length)
  return Array.from({ length: taken }, (_, i) => entries[Math.floor(((i + 0.5) * entries.length) / taken)] as Entry)
}

/** How many windows a text must have, and the error if it has too few tokens for them. */
interface LeastWindows {
  readonly least: number
  refuse(tokens: number, needed: number): EspalierError
}

async function readOpened(
  source: Pick<Documents, 'kind' | 'documents'> | Exclude<TextSource, Documents>,
  path: string,
  tokenizer: Tokenizer | undefined,
  options: WindowOptions,
  limit?: LeastWindows,
): Promise<WindowsRead> {
  const { maxWindows = Number.POSITIVE_INFINITY, maxDocuments, seed = 0, reread = (ids: Int32Array) => ids } = options
  const needed = ownTokens(options) * Math.max(limit?.least ?? 1, maxWindows)
  if (source.kind === 'windows') {
    const windows = (seed === 0 ? source.windows : new PythonRandom(seed).shuffle(source.windows)).slice(0, maxWindows).map(reread)
    return { windows, tokens: windows.reduce((sum, { length }) => sum + length, 0) }
  }
  if (source.kind === 'ids') {
    const ids = options.reread ? [...reread(Int32Array.from(source.ids))] : source.ids
    return { windows: cutIds(ids, path, options), tokens: ids.length }
  }
  const encode = (documents: AsyncIterable<string>, needed: number) => new Encoding(need(tokenizer, path), needed, options).take(documents)
  const inOrder = () => limitDocuments(source.documents(), maxDocuments)
  if (seed === 0) {
    const ids = await encode(inOrder(), needed)
    return { windows: cutIds(ids, path, options, limit), tokens: ids.length }
  }
  const documents = await countDocuments(inOrder())
  if (documents < 2) {
    const ids = await encode(inOrder(), Number.POSITIVE_INFINITY)
    return { windows: cutIds(ids, path, options, limit), tokens: ids.length, documents }
  }
  const ids = await encode(drawDocuments(inOrder, documents, seed), needed)
  return { windows: cutIds(ids, path, { ...options, seed: 0 }, limit), tokens: ids.length, documents }
}

/** The number of tokens that a window takes from its text. */
const ownTokens = ({ sequenceLength, begin }: WindowOptions): number => sequenceLength - (begin === undefined ? 0 : 1)

/**
 * Cuts one sequence of ids into windows. Seed 0 gives consecutive windows from token 0. Other seeds draw the first token, such that the
 * same number of windows fits, and the order of the windows. A smaller count gives the first windows of a larger count.
 */
function cutIds(ids: readonly number[], path: string, options: WindowOptions, limit?: LeastWindows): Int32Array[] {
  const { maxWindows, seed = 0, begin, sequenceLength } = options
  const own = ownTokens(options)
  if (limit && ids.length < limit.least * own) throw limit.refuse(ids.length, limit.least * own)
  if (ids.length < own) {
    const most = ids.length + sequenceLength - own
    const advice = most >= 2 ? ` or a sequence length of at most ${most}` : ''
    throw new EspalierError('invalid', `${path} gives ${ids.length} tokens, but one window needs ${own}. Use a longer text${advice}.`)
  }
  if (seed === 0) return cutWindows(ids, sequenceLength, maxWindows, begin)
  const random = new PythonRandom(seed)
  const offset = random.below((ids.length % own) + 1)
  return random.shuffle(cutWindows(ids.slice(offset), sequenceLength, undefined, begin)).slice(0, maxWindows)
}

/**
 * Consecutive windows of `sequenceLength` ids. With `begin`, each has this id and then one id less of its own. A tail that fills no window
 * is dropped.
 */
export function cutWindows(
  ids: ArrayLike<number>,
  sequenceLength: number,
  maxWindows = Number.POSITIVE_INFINITY,
  begin?: number,
): Int32Array[] {
  if (!Number.isInteger(sequenceLength) || sequenceLength < 2) {
    throw new EspalierError('usage', `A sequence length of ${sequenceLength} is not possible. Choose a whole number of at least 2.`)
  }
  const start = begin === undefined ? [] : [begin]
  const own = sequenceLength - start.length
  const count = Math.min(Math.floor(ids.length / own), maxWindows)
  return Array.from({ length: count }, (_, window) => {
    return Int32Array.from({ length: sequenceLength }, (_, i) => (start[i] ?? ids[window * own + i - start.length]) as number)
  })
}

function need(tokenizer: Tokenizer | undefined, path: string): Tokenizer {
  if (tokenizer) return tokenizer
  throw new EspalierError(
    'invalid',
    `${path} is text, but the model has no tokenizer. Place its tokenizer.json in the model's folder, or give token ids.`,
  )
}
