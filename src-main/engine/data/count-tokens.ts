import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { extname } from 'node:path'
import { setImmediate as breathe } from 'node:timers/promises'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import { underLimits } from '#engine/limits/reading.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { type DataSources, locate } from './read-data.ts'
import { joinDocuments, limitDocuments, openSource, type TextSource } from './source.ts'
import { splitText } from './split.ts'
import { type OnBytes, readCounted } from './text-file.ts'

/** How often a text has each token. The text was read to its end, but never held in memory. */
export interface CountedText {
  /** By id. Texts that are mixed count by their shares. */
  readonly counts: Float64Array
  readonly tokens: number
  /** The beginning of the text, for people. */
  readonly beginning: string
  /** What identifies the text, and how it was mixed. */
  readonly hash: string
  /** The share of the text that `passages` gives. */
  readonly sampled: number
  /** Reads the text again. Gives passages whose concatenated ids are those of the text, of a long text a sample. */
  passages(): AsyncIterable<string>
}

/** How the counting of a run is reported, cancelled and kept. */
export interface CountingRun {
  readonly signal: AbortSignal
  progress(phase: string, done: number, total: number, unit: string): void
  /** Keeps the result under everything that it depends on besides the tokenizer. */
  keep<T>(on: { readonly hash: string; readonly size: number }, compute: () => Promise<T>): Promise<T>
}

/** The phases that are reported. */
export const countingTokens = 'Counting tokens'
const readingFiles = 'Reading the text'

/** Text is cut and counted in batches of about this many characters. */
const batchLength = 16_384
/** Text without a border is cut here, which can change the tokens at the cut. */
const longestPiece = 2 ** 20
/** A sample has this many batches. */
const sampledBatches = 128
/** Different words that wait to be encoded. Most of a text repeats them. */
const mostWords = 400_000
/** Longer words hardly repeat. */
const longestWord = 100
const beginningLength = 400
const pauseMilliseconds = 100

/** Counts the tokens of all of a request's text. Several texts count by their shares, whatever their lengths are. */
export async function countData(
  tokenizer: Tokenizer,
  size: number,
  data: DataRequest,
  sources: Pick<DataSources, 'localFolder' | 'fetchFile'>,
  run: CountingRun,
): Promise<CountedText & { used: UsedData }> {
  const { source, split, mix, sequenceLength } = data
  const texts: (Counted & { readonly share: number })[] = []
  const parts: UsedData[] = []
  for (const part of mix ?? [{ source, share: 1, split }]) {
    const found = await locate(part.source, sources)
    const text = await countText(found, part.split, { tokenizer, size, run })
    const { hash, tokens } = text
    const windows = Math.max(1, Math.floor(tokens / sequenceLength))
    const used = { source: part.source, revision: found.revision, sequenceLength, windows, seed: 0, hash, tokens }
    parts.push(part.split ? { ...used, split: part.split } : used)
    texts.push({ ...text, share: part.share })
  }
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
  const tokens = sum(texts.map((text) => text.tokens))
  const sampled = Math.min(1, sampledBatches / sum(texts.map(({ batches }) => batches)))
  const [[first], [only]] = [texts, parts]
  if (!first || !only) throw new EspalierError('usage', 'No text was given. Choose one.')
  const hash = mix ? mixedHash(texts) : first.hash
  const windows = sum(parts.map((part) => part.windows))
  return {
    counts: mix ? mixedCounts(texts, tokens, size) : Float64Array.from(first.counts),
    tokens,
    beginning: first.beginning,
    hash,
    sampled,
    async *passages() {
      for (const text of texts) yield* text.passages(Math.max(1, Math.round(sampled * text.batches)))
    },
    used: mix ? { source, revision: null, sequenceLength, windows, seed: 0, hash, tokens, parts } : only,
  }
}

const mixedHash = (texts: readonly { hash: string; share: number }[]): string =>
  createHash('sha256')
    .update(texts.map(({ hash, share }) => `${hash} ${share}`).join('\n'))
    .digest('hex')

/** The counts of several texts, such that each has its share of all tokens. */
function mixedCounts(texts: readonly (Counted & { readonly share: number })[], tokens: number, size: number): Float64Array {
  const shares = texts.reduce((sum, { share }) => sum + share, 0)
  const sums = new Float64Array(size)
  for (const text of texts) {
    const weight = ((text.share / shares) * tokens) / text.tokens
    for (const [id, count] of text.counts.entries()) sums[id] = (sums[id] ?? 0) + weight * count
  }
  return sums
}

/** What is known of one text after it was read to its end. */
interface Counted {
  readonly counts: readonly number[]
  readonly tokens: number
  readonly batches: number
  readonly beginning: string
  readonly hash: string
  passages(wanted: number): AsyncIterable<string>
}

/** Reads one text to its end, and counts its tokens. */
async function countText(
  { path, maxDocuments }: { path: string; maxDocuments?: number },
  split: DataRequest['split'],
  { tokenizer, size, run }: { tokenizer: Tokenizer; size: number; run: CountingRun },
): Promise<Counted> {
  const source = await openSource(path, undefined, split !== undefined)
  const files = source.kind === 'documents' ? source.files : [path]
  const text = source.kind === 'documents' ? await textOf(source, split, maxDocuments) : undefined
  const read = (onBytes?: OnBytes) => (text ? batchesOf(text(onBytes), tokenizer) : batchesOfIds(source, tokenizer))
  const bytes = (await Promise.all(files.map((file) => stat(file)))).reduce((sum, file) => sum + file.size, 0)
  const hash = await hashFiles(files, JSON.stringify([split ?? null, maxDocuments ?? null]), bytes, run)
  const found = await run.keep({ hash, size }, () =>
    underLimits(`${path}, split by the tokenizer of the model,`, async () => {
      const counter = new TokenCounter(tokenizer, size, path)
      let done = 0
      const pause = async () => {
        await breathe()
        run.signal.throwIfAborted()
        run.progress(countingTokens, Math.min(done, bytes), bytes, 'bytes')
      }
      const onBytes = (more: number) => {
        done += more
      }
      for await (const batch of read(onBytes)) await counter.add(batch, pause)
      await counter.encodeWords(pause)
      run.progress(countingTokens, bytes, bytes, 'bytes')
      return { counts: [...counter.counts], batches: counter.batches, beginning: counter.beginning }
    }),
  )
  const tokens = found.counts.reduce((sum, count) => sum + count, 0)
  if (tokens === 0) throw new EspalierError('invalid', `${path} has no text whose tokens could be counted. Choose another text.`)
  return { ...found, tokens, hash, passages: (wanted) => sampleOf(read(), found.batches, wanted) }
}

/** The content of files. Reading it takes a small part of the time that counting takes. */
async function hashFiles(files: readonly string[], choice: string, total: number, run: CountingRun): Promise<string> {
  const hash = createHash('sha256').update(choice)
  let done = 0
  for (const file of files) {
    hash.update(`\n${extname(file)}\n`)
    for await (const bytes of readCounted(file)) {
      hash.update(bytes)
      done += bytes.length
      run.signal.throwIfAborted()
      run.progress(readingFiles, done, total, 'bytes')
    }
  }
  return hash.digest('hex')
}

/** The pieces of drawn batches, or of all if there are no more than wanted. */
async function* sampleOf(batches: AsyncIterable<Batch>, all: number, wanted: number): AsyncGenerator<string> {
  const order = [...Array(all).keys()]
  const chosen = new Set(wanted < all ? new PythonRandom(0).shuffle(order).slice(0, wanted) : order)
  let index = 0
  for await (const { pieces } of batches) {
    if (chosen.delete(index++)) yield* pieces
    if (chosen.size === 0) return
  }
}

/** The documents of a source that a request reads, joined. */
async function textOf(
  source: Extract<TextSource, { kind: 'documents' }>,
  split: DataRequest['split'],
  maxDocuments: number | undefined,
): Promise<(onBytes?: OnBytes) => AsyncIterable<string>> {
  if (split) {
    const { documents } = await splitText(source, split)
    return () => joinDocuments(documents())
  }
  return maxDocuments === undefined ? source.joined : (onBytes) => joinDocuments(limitDocuments(source.documents(onBytes), maxDocuments))
}

/** Pieces of a text that can be encoded one by one, with their ids if these are known. */
interface Batch {
  readonly pieces: readonly string[]
  readonly ids?: ArrayLike<number>
}

async function* batchesOf(text: AsyncIterable<string>, tokenizer: Pick<Tokenizer, 'split'>): AsyncGenerator<Batch> {
  let [waiting, enough] = ['', batchLength]
  for await (const chunk of text) {
    for (let from = 0; from < chunk.length; from += batchLength) {
      waiting += chunk.slice(from, from + batchLength)
      if (waiting.length < enough) continue
      // Following text may change the last piece, so it waits.
      const pieces = tokenizer.split(waiting)
      waiting = pieces.pop() ?? ''
      if (waiting.length > longestPiece) {
        const end = lastWordOf(waiting)
        pieces.push(waiting.slice(0, end))
        waiting = waiting.slice(end)
      }
      enough = Math.max(batchLength, 2 * waiting.length)
      yield { pieces }
    }
  }
  if (waiting !== '') yield { pieces: tokenizer.split(waiting) }
}

/** Where a last word begins, and if there is none, the last character. */
function lastWordOf(text: string): number {
  const place = Math.max(text.lastIndexOf(' '), text.lastIndexOf('\n'))
  if (place > 0) return place
  const last = text.charCodeAt(text.length - 1)
  return text.length - (last >= 0xd800 && last <= 0xdbff ? 1 : 0)
}

async function* batchesOfIds(source: TextSource, tokenizer: Tokenizer): AsyncGenerator<Batch> {
  if (source.kind === 'documents') return
  const windows = source.kind === 'windows' ? source.windows : [Int32Array.from(source.ids)]
  for (const window of windows) {
    for (let from = 0; from < window.length; from += batchLength / 4) {
      const ids = window.subarray(from, from + batchLength / 4)
      yield { pieces: [tokenizer.decode([...ids], { cleanUp: false })], ids }
    }
  }
}

/** Counts tokens. Words that a text repeats are encoded once for all of them. */
class TokenCounter {
  readonly counts: Float64Array
  batches = 0
  beginning = ''
  readonly #tokenizer: Pick<Tokenizer, 'encode' | 'words'>
  readonly #source: string
  readonly #words = new Map<string, number>()
  #pausedAt = performance.now()

  constructor(tokenizer: Pick<Tokenizer, 'encode' | 'words'>, size: number, source: string) {
    this.counts = new Float64Array(size)
    this.#tokenizer = tokenizer
    this.#source = source
  }

  async add({ pieces, ids }: Batch, pause: () => Promise<void>): Promise<void> {
    this.batches++
    if (this.beginning.length < beginningLength) this.beginning = (this.beginning + pieces.join(' ')).slice(0, beginningLength)
    if (ids) for (const id of Array.from(ids)) this.#count(id, 1)
    else for (const piece of pieces) for (const word of this.#tokenizer.words(piece)) this.#see(word)
    if (performance.now() - this.#pausedAt >= pauseMilliseconds) await this.#pause(pause)
    if (this.#words.size > mostWords) await this.encodeWords(pause)
  }

  /** Encodes the words that were seen. */
  async encodeWords(pause: () => Promise<void>): Promise<void> {
    for (const [word, count] of this.#words) {
      for (const id of this.#tokenizer.encode(word)) this.#count(id, count)
      if (performance.now() - this.#pausedAt >= pauseMilliseconds) await this.#pause(pause)
    }
    this.#words.clear()
  }

  #see(word: string): void {
    const count = this.#words.get(word)
    if (count !== undefined) this.#words.set(word, count + 1)
    else if (word.length <= longestWord) this.#words.set(copyOf(word), 1)
    else for (const id of this.#tokenizer.encode(word)) this.#count(id, 1)
  }

  #count(id: number, times: number): void {
    if (id >= this.counts.length)
      throw new EspalierError(
        'invalid',
        `${this.#source} holds token id ${id}; the model's vocabulary ends at ${this.counts.length - 1}. Encode the text with this model's tokenizer.`,
      )
    this.counts[id] = (this.counts[id] ?? 0) + times
  }

  async #pause(pause: () => Promise<void>): Promise<void> {
    await pause()
    this.#pausedAt = performance.now()
  }
}

/** V8 keeps the whole text that a longer word was cut from, unless the word is copied. */
const copyOf = (word: string): string => (word.length < 13 ? word : Buffer.from(word, 'utf16le').toString('utf16le'))
