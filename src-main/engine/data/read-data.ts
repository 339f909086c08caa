import { createHash } from 'node:crypto'
import { at } from '#contract/at.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import type { FetchHubFile } from '#contract/models/hub-file.ts'
import { selfWritten } from '#contract/titles.ts'
import { plural } from '#contract/words.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { bundledTexts, isBundledId, locateBundled } from '#engine/data/bundled.ts'
import type { EncodingReport } from '#engine/data/encoding.ts'
import { type DatasetLocation, isDatasetId, locateDataset } from '#engine/data/named.ts'
import { readWindows, type Windows, type WindowsRead } from '#engine/data/windows.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import type { KindFilter } from './source.ts'

/** Options for reading a run's data. */
export interface DataSources {
  /** Receives the progress of encoding, and can cancel it. */
  readonly report?: EncodingReport | undefined
  /** Folder of local data sets, from which named ones are read. */
  readonly localFolder?: string | undefined
  readonly fetchFile?: FetchHubFile | undefined
  /** Decides which kinds of documents of a bundled text are read. In a user's own text, the field `kind` has no meaning to us. */
  readonly accepts?: KindFilter | undefined
  /** Selects windows. More windows than requested are read from each source, so that enough remain after the selection. */
  readonly choose?: ((windows: Windows) => Windows) | undefined
  /** Generates windows of text with the dense model, if a request may ask for it. */
  readonly write?: ((windows: number, sequenceLength: number, begin: number | undefined) => Promise<Windows>) | undefined
  /** Replaces ids of ready windows, if they are those of another tokenizer. */
  readonly reread?: ((ids: Int32Array) => Int32Array) | undefined
  /** The token that each window begins with. */
  readonly begin?: number | undefined
}

/** The windows of a request, the run's record of them, and notes for the user. */
export interface ReadData {
  readonly windows: Windows
  readonly used: UsedData
  readonly notes: readonly string[]
  /** How the text was split, if only a part of it was read. */
  readonly split?: WindowsRead['split']
}

/** Reads the windows of a request, and checks their ids against the model's vocabulary. Any `seed` except 0 draws the windows. */
export async function readData(
  model: { readonly spec: DecoderSpec },
  tokenizer: Tokenizer | undefined,
  data: DataRequest,
  seed: number,
  sources: DataSources,
): Promise<ReadData> {
  if (!data.mix) return readSource(model, tokenizer, data, seed, sources)
  const counts = shareOut(
    data.mix.map(({ share }) => share),
    data.windows,
  )
  const parts: ReadData[] = []
  for (const [index, { source, split }] of data.mix.entries()) {
    const windows = counts?.[index]
    if (windows === 0) continue
    const { sequenceLength } = data
    const part = { source, sequenceLength, ...(split ? { split } : {}) }
    parts.push(await readSource(model, tokenizer, { ...part, ...(windows === undefined ? {} : { windows }) }, seed, sources))
  }
  return mixed(data, seed, parts, sources.begin)
}

/**
 * Mixes windows of several sources. Each source is spread evenly over the result, so that any stretch of it has all sources in their
 * shares.
 */
function mixed({ source }: DataRequest, seed: number, parts: readonly ReadData[], begin: number | undefined): ReadData {
  const placed = parts.flatMap(({ windows }) => windows.map((window, i) => ({ window, place: (i + 0.5) / windows.length })))
  const windows = placed.sort((a, b) => a.place - b.place).map(({ window }) => window)
  const given = parts.filter((part) => part.windows.length > 0)
  const used = {
    source,
    revision: null,
    sequenceLength: Math.max(0, ...windows.map(({ length }) => length)),
    windows: windows.length,
    seed,
    ...contentOf(windows, begin),
    parts: given.map((part) => part.used),
  }
  return { windows, used, notes: parts.flatMap(({ notes }) => notes) }
}

/** The number of windows for each share. The numbers are rounded down, and the rest of `total` goes to the largest remainders. */
function shareOut(shares: readonly number[], total: number | undefined): number[] | undefined {
  if (total === undefined) return undefined
  const sum = shares.reduce((all, share) => all + share, 0)
  const exact = shares.map((share) => (share / sum) * total)
  const counts = exact.map(Math.floor)
  const order = [...exact.keys()].sort((a, b) => (at(exact, b) % 1) - (at(exact, a) % 1) || a - b)
  const left = total - counts.reduce((all, count) => all + count, 0)
  for (const index of order.slice(0, left)) counts[index] = at(counts, index) + 1
  return counts
}

async function readSource(
  model: { readonly spec: DecoderSpec },
  tokenizer: Tokenizer | undefined,
  data: DataRequest,
  seed: number,
  sources: DataSources,
): Promise<ReadData> {
  if (data.source === selfWritten) return readWritten(data, seed, sources)
  const found = await locate(data.source, sources)
  const { windows, documents, split } = await byName(data.source, found.path, async () => {
    const { accepts: _, ...rest } = sources
    const read = await readChosen(found, tokenizer, data, seed, isBundledId(data.source) ? sources : rest)
    checkIds(read.windows, model, found.path)
    return read
  })
  const sequenceLength = Math.max(0, ...windows.map(({ length }) => length))
  const used = {
    source: data.source,
    revision: found.revision,
    sequenceLength,
    windows: windows.length,
    seed,
    ...contentOf(windows, sources.begin),
    ...(data.split ? { split: data.split } : {}),
    ...(split ? { [split.byPassage ? 'passages' : 'documents']: split.count } : {}),
  }
  return { windows, used, notes: notesOn(data, used, model.spec, documents, sources.begin), ...(split ? { split } : {}) }
}

/** Makes errors about a bundled text name the text instead of its file. */
async function byName<T>(source: string, path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (thrown) {
    if (!isBundledId(source) || !(thrown instanceof EspalierError)) throw thrown
    throw new EspalierError(thrown.code, thrown.message.replaceAll(path, `"${bundledTexts[source].title}"`))
  }
}

async function readWritten(
  { source, sequenceLength, windows: wanted }: DataRequest,
  seed: number,
  { write, begin }: DataSources,
): Promise<ReadData> {
  if (!write || wanted === undefined)
    throw new EspalierError('usage', `Only a recovery trains on "${source}" text, which the dense model writes. Choose another text.`)
  const windows = await write(wanted, sequenceLength, begin)
  const used = { source, revision: null, sequenceLength, windows: windows.length, seed, ...contentOf(windows, begin) }
  return { windows, used, notes: [] }
}

/** Reads the requested number of selected windows, or fewer if the source does not have that many. */
async function readChosen(
  { path, maxDocuments }: DatasetLocation,
  tokenizer: Tokenizer | undefined,
  { sequenceLength, windows: wanted, split }: DataRequest,
  seed: number,
  { report, accepts, choose, begin, reread }: DataSources,
): Promise<Pick<WindowsRead, 'windows' | 'documents' | 'split'>> {
  for (let most = wanted; ; most = 2 * (most ?? 0)) {
    const {
      windows,
      documents,
      split: parts,
    } = await readWindows(path, tokenizer, {
      sequenceLength,
      seed,
      begin,
      reread,
      ...(split ? { split } : {}),
      ...(report ? { report } : {}),
      ...(accepts ? { accepts } : {}),
      ...(most === undefined ? {} : { maxWindows: most }),
      ...(maxDocuments === undefined ? {} : { maxDocuments }),
    })
    const chosen = choose ? choose(windows) : windows
    const hasMore = wanted !== undefined && windows.length === most
    if (chosen.length >= (wanted ?? 0) || !hasMore)
      return { windows: chosen.slice(0, wanted), ...(documents === undefined ? {} : { documents }), ...(parts ? { split: parts } : {}) }
  }
}

function checkIds(windows: Windows, model: { readonly spec: DecoderSpec }, path: string): void {
  const { vocabulary } = model.spec
  for (const window of windows) {
    const bad = window.find((id) => id >= vocabulary)
    if (bad === undefined) continue
    throw new EspalierError(
      'invalid',
      `${path} holds token id ${bad}; the model's vocabulary ends at ${vocabulary - 1}. Encode the text with this model's tokenizer.`,
    )
  }
}

/** A note on windows longer than the model's context. */
export function longWindowNote({ contextLength }: DecoderSpec, sequenceLength: number): string {
  return `Windows of ${sequenceLength} tokens are longer than the ${contextLength} that the model was made for (max_position_embeddings). They are computed anyway.`
}

function notesOn({ source, windows: wanted = 0 }: DataRequest, used: UsedData, spec: DecoderSpec, documents = 0, begin?: number): string[] {
  const notes: string[] = []
  const { windows, sequenceLength, seed } = used
  if (sequenceLength > spec.contextLength) notes.push(longWindowNote(spec, sequenceLength))
  if (windows < wanted) {
    const drawn = seed === 0 || documents > 1 ? '' : ' The seed only changes their first token and their order.'
    notes.push(
      `${source} gives ${plural(windows, 'window')} of ${sequenceLength} tokens, but ${wanted} were requested; ${windows === 1 ? 'it is' : `all ${windows} are`} used.${drawn}`,
    )
  }
  if (seed !== 0 && documents > 1 && documents < 5)
    notes.push(`${source} has only ${documents} documents, so the seed changes little more than their order.`)
  if (begin !== undefined && !used.beginToken)
    notes.push(`${source} holds ready windows, which are used unchanged. Not all of them begin with the model's begin token.`)
  return notes
}

/** What identifies windows: the hash of their ids, and that all of them begin with the token `begin`. */
function contentOf(windows: Windows, begin: number | undefined): Pick<UsedData, 'hash' | 'beginToken'> {
  const begins = begin !== undefined && windows.every((window) => window[0] === begin)
  return { hash: hashOf(windows), ...(begins ? { beginToken: true } : {}) }
}

export function hashOf(windows: Windows): string {
  const hash = createHash('sha256')
  for (const window of windows) {
    const bytes = Buffer.alloc(4 * window.length)
    window.forEach((id, i) => void bytes.writeInt32LE(id, 4 * i))
    hash.update(bytes)
  }
  return hash.digest('hex')
}

/** Where a text is: a bundled one, a named data set, or a path. */
export async function locate(
  source: string,
  { localFolder, fetchFile }: Pick<DataSources, 'localFolder' | 'fetchFile'>,
): Promise<DatasetLocation> {
  if (isBundledId(source)) return { path: locateBundled(source), revision: null }
  if (!isDatasetId(source)) return { path: source, revision: null }
  return locateDataset(source, { ...(localFolder === undefined ? {} : { localFolder }), ...(fetchFile ? { fetchFile } : {}) })
}
