import { type FileHandle, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import type { RecordBatch } from 'apache-arrow'
import type { AsyncBuffer, FileMetaData } from 'hyparquet'
import { type DataEnding, dataEndings, endingOf, isDataEnding, plainEndings } from '#contract/data/text-endings.ts'
import { EspalierError } from '#contract/errors.ts'
import { describe, isObject, reasonOf } from '#engine/checkpoint/json.ts'
import { allowFor } from '#engine/limits/reading.ts'
import { openRegular } from '#runtime/small-file.ts'
import { listDataFiles, listTextFiles } from './data-folder.ts'
import { joinChunks, type OnBytes, readChunks, readCounted, readWholeText } from './text-file.ts'

interface TextLimits {
  /** Documents to read from the start, by default all. */
  maxDocuments?: number
}

interface Reading {
  readonly accepts?: KindFilter | undefined
  readonly onBytes?: OnBytes
}

type Reader = (file: string, reading?: Reading) => AsyncIterable<string>

const readers: Record<Exclude<DataEnding, 'json'>, Reader> = {
  txt: readWholeText,
  text: readWholeText,
  md: readWholeText,
  jsonl: readJsonLines,
  ndjson: readJsonLines,
  parquet: readParquet,
  arrow: readArrow,
}

/**
 * Opens a text source: `.txt` (one document), `.jsonl` (field `text` or `content`), `.json` (JSON lines, or an array of strings, objects or
 * token ids), each also gzipped, `.parquet` and `.arrow` (column `text` or `content`), a folder that `datasets` saved, or a folder of such
 * files. If `everything` is set, or a folder has no such files, its source code and subfolders are read too. Documents are read on demand.
 * Every defect throws an EspalierError that names the file. `accepts` selects documents of a JSON lines file by their field `kind`, if it
 * has one.
 */
export async function openSource(path: string, accepts?: KindFilter, everything = false): Promise<TextSource> {
  const found = await stat(path).catch(() => undefined)
  if (!found)
    throw new EspalierError('not-found', `${path} does not exist. Give a text, JSONL, Parquet or Arrow file, or a folder of them.`)
  if (found.isDirectory()) return openDataFolder(path, everything)
  if (!found.isFile()) throw new EspalierError('invalid', `${path} is neither a file nor a folder.`)
  return openFile(path, accepts)
}

/** All documents of a text source, in order. */
export async function readTexts(path: string, limits: TextLimits = {}): Promise<string[]> {
  const source = await openSource(path)
  if (source.kind !== 'documents') throw new EspalierError('invalid', `${path} holds token ids, but text is needed here.`)
  return Array.fromAsync(limitDocuments(source.documents(), limits.maxDocuments))
}

/** The first documents of a source. Reading stops after the last of them. */
export async function* limitDocuments(documents: AsyncIterable<string>, maxDocuments = Number.POSITIVE_INFINITY): AsyncGenerator<string> {
  if (maxDocuments <= 0) return
  let count = 0
  for await (const document of documents) {
    yield document
    if (++count >= maxDocuments) return
  }
}

async function openFile(file: string, accepts?: KindFilter): Promise<TextSource> {
  const ending = endingOf(basename(file))
  const known = isDataEnding(ending) ? ending : undefined
  if (known === 'json') return openJson(file)
  const read = known ? readers[known] : plainEndings.includes(ending) ? readWholeText : undefined
  if (read)
    return ofDocuments(
      [file],
      (onBytes) => read(file, { accepts, ...(onBytes ? { onBytes } : {}) }),
      read === readWholeText ? (onBytes) => readChunks(file, onBytes) : undefined,
    )
  throw new EspalierError(
    'invalid',
    `${file} has an ending that Espalier does not read. Use one of ${dataEndings.map((known) => `.${known}`).join(', ')}; text and JSON files may be gzipped (.gz). Source code is read too.`,
  )
}

async function openDataFolder(folder: string, everything: boolean): Promise<TextSource> {
  const all = () => listTextFiles(folder, [...dataEndings, ...plainEndings])
  const files = everything ? await all() : await listDataFiles(folder, dataEndings, all)
  const [only] = files
  if (files.length === 1 && only !== undefined) return openFile(only)
  return ofDocuments(
    files,
    (onBytes) => readAll(files, ({ documents }) => documents(onBytes)),
    (onBytes) => readAll(files, ({ joined }) => joined(onBytes), separator),
  )
}

async function* readAll(files: string[], read: (source: Documents) => AsyncIterable<string>, between?: string): AsyncGenerator<string> {
  for (const [index, file] of files.entries()) {
    const source = await openFile(file)
    if (source.kind !== 'documents')
      throw new EspalierError(
        'invalid',
        `${file} holds token ids but is in a folder with other files. Give the file itself, not its folder.`,
      )
    if (index > 0 && between !== undefined) yield between
    yield* read(source)
  }
}

/** What stands between two documents of a text. */
export const separator = '\n\n'

/**
 * Documents in order, and all of them joined, in pieces of any length, so that a long document is never in memory as a whole. Both report
 * the bytes that they read of the files.
 */
export interface Documents {
  readonly kind: 'documents'
  readonly files: readonly string[]
  documents(onBytes?: OnBytes): AsyncIterable<string>
  joined(onBytes?: OnBytes): AsyncIterable<string>
}

const ofDocuments = (files: readonly string[], documents: Documents['documents'], joined?: Documents['joined']): Documents => ({
  kind: 'documents',
  files,
  documents,
  joined: joined ?? ((onBytes) => joinDocuments(documents(onBytes))),
})

export async function* joinDocuments(documents: AsyncIterable<string>): AsyncGenerator<string> {
  let isFirst = true
  for await (const document of documents) {
    if (!isFirst) yield separator
    isFirst = false
    yield document
  }
}

/** The contents of a file or folder: documents in order, one sequence of token ids, or windows of token ids. */
export type TextSource = Documents | { kind: 'ids'; ids: number[] } | { kind: 'windows'; windows: Int32Array[] }

/** Opens a `.json` file: an array of strings, objects or token ids, or JSON lines, which many data sets publish under this ending. */
async function openJson(file: string): Promise<TextSource> {
  if ((await firstCharacter(file)) !== '[') return ofDocuments([file], (onBytes) => parseJsonLines(readChunks(file, onBytes), file))
  return sortOut(parseArray(await joinChunks(readChunks(file), file), file), file)
}

async function firstCharacter(file: string): Promise<string> {
  for await (const chunk of readChunks(file)) {
    const text = chunk.trimStart()
    if (text !== '') return text.slice(0, 1)
  }
  throw new EspalierError('invalid', `${file} is empty.`, { file })
}

function parseArray(text: string, file: string): unknown[] {
  try {
    return JSON.parse(text) as unknown[]
  } catch (error) {
    throw new EspalierError('invalid', `${file} is not JSON: ${reasonOf(error)}.`, { file })
  }
}

function sortOut(items: unknown[], file: string): TextSource {
  if (items.length === 0)
    throw new EspalierError('invalid', `${file} holds an empty array. It must hold documents or windows of token ids.`, { file })
  if (items.every(Array.isArray)) return { kind: 'windows', windows: items.map((ids, window) => toWindow(ids, window, file)) }
  if (items.every((item) => typeof item === 'number')) return { kind: 'ids', ids: items.map((id, i) => checkId(id, `Item ${i}`, file)) }
  const texts = items.map((item, i) => takeText(item, `Item ${i} of ${file}`))
  return ofDocuments([file], () => yieldAll(texts))
}

function toWindow(ids: unknown[], window: number, file: string): Int32Array {
  if (ids.length < 2)
    throw new EspalierError('invalid', `Window ${window} of ${file} has ${ids.length} token ids; it needs at least 2.`, { file })
  return Int32Array.from(ids, (id) => checkId(id, `Window ${window}`, file))
}

function checkId(id: unknown, where: string, file: string): number {
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < 2 ** 31) return id
  throw new EspalierError(
    'invalid',
    `${where} of ${file} has the token id ${describe(id)}; a token id must be a whole number, 0 or more.`,
    { file },
  )
}

async function* yieldAll(texts: string[]): AsyncGenerator<string> {
  yield* texts
}

/** The longest line in characters. No document that a model could run on is longer. */
const longestLine = 100_000_000

/** Possible names of the text field of a document. The first one that exists is used. */
const textFields = ['text', 'content'] as const

/** Decides by a document's field `kind` whether it is read. Documents without this field are always read. */
export type KindFilter = (kind: string) => boolean

/** Yields the text of each document of a JSON lines file. A document is a string, or an object with a text field. Errors name the line. */
async function* readJsonLines(file: string, { accepts, onBytes }: Reading = {}): AsyncGenerator<string> {
  for await (const { value, where } of parseJsonValues(readChunks(file, onBytes), file)) {
    if (accepts && isObject(value) && typeof value.kind === 'string' && !accepts(value.kind)) continue
    yield takeText(value, where)
  }
}

/** Yields the text of each document of JSON lines that arrive in pieces. Skips empty lines. */
async function* parseJsonLines(chunks: AsyncIterable<string>, file: string): AsyncGenerator<string> {
  for await (const { value, where } of parseJsonValues(chunks, file)) yield takeText(value, where)
}

/** Yields the value of each JSON line, with its location for errors (`Line 3 of FILE`). Skips empty lines. */
export async function* parseJsonValues(chunks: AsyncIterable<string>, file: string): AsyncGenerator<{ value: unknown; where: string }> {
  let number = 0
  for await (const line of splitLines(chunks, file)) {
    number++
    const where = `Line ${number} of ${file}`
    if (line.trim() !== '') yield { value: parseLine(line, where), where }
  }
}

async function* splitLines(chunks: AsyncIterable<string>, file: string): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of chunks) {
    const lines = chunk.split('\n')
    const last = lines.pop() as string
    for (const line of lines) {
      yield rest + line
      rest = ''
    }
    rest += last
    if (rest.length > longestLine)
      throw new EspalierError(
        'invalid',
        `${file} has a line of more than ${longestLine.toLocaleString('en')} characters, the limit for one document. Split the line.`,
        { file },
      )
  }
  if (rest !== '') yield rest
}

function parseLine(line: string, where: string): unknown {
  try {
    return JSON.parse(line)
  } catch (error) {
    throw new EspalierError('invalid', `${where} is not JSON: ${reasonOf(error)}.`)
  }
}

const [questionFields, answerFields] = [
  ['question', 'prompt', 'instruction', 'input'],
  ['answer', 'response', 'output', 'completion', 'solution'],
]

/** The turns of a chat (`messages`), of a saved transcript of the playground, or of a question with its answer. */
function turnsOf(value: Record<string, unknown>): string[] {
  const { messages, prompts, answers } = value
  const isText = (text: unknown): text is string => typeof text === 'string' && text !== ''
  if (Array.isArray(messages)) return messages.map((message) => (isObject(message) ? message.content : undefined)).filter(isText)
  if (Array.isArray(prompts) && Array.isArray(answers))
    return prompts.flatMap((prompt, index) => {
      const answer = answers.find((one) => isObject(one) && one.prompt === index)
      return [prompt, isObject(answer) ? answer.text : undefined].filter(isText)
    })
  const first = (names: readonly string[]) => names.map((name) => value[name]).find(isText)
  return [first(questionFields), first(answerFields)].filter(isText)
}

/** Returns the text of one document: the string itself, or the text field of an object. null counts as empty. */
function takeText(value: unknown, where: string): string {
  if (typeof value === 'string') return value
  if (!isObject(value))
    throw new EspalierError(
      'invalid',
      `${where} is ${describe(value)}; it must be a string, or an object with a field "text" or "content".`,
    )
  const field = textFields.find((name) => Object.hasOwn(value, name))
  if (!field) {
    const turns = turnsOf(value)
    if (turns.length > 1) return turns.join('\n\n')
    const fields = Object.keys(value).slice(0, 8).join(', ')
    const found = fields === '' ? 'it is empty' : `its fields are ${fields}`
    throw new EspalierError('invalid', `${where} has no field "text" or "content"; ${found}.`)
  }
  const text = value[field]
  if (typeof text === 'string') return text
  if (text === null) return ''
  throw new EspalierError('invalid', `${where}: the field "${field}" is ${describe(text)}; it must be a string.`)
}

/** Yields the text column of an uncompressed Arrow IPC file (stream or file form), with one record batch in memory at a time. */
async function* readArrow(file: string, { onBytes }: Reading = {}): AsyncGenerator<string> {
  for await (const batch of readArrowBatches(file, onBytes)) yield* textsOf(batch, file)
}

/** Yields the record batches of an uncompressed Arrow IPC file, with one in memory at a time. */
export async function* readArrowBatches(file: string, onBytes?: OnBytes): AsyncGenerator<RecordBatch> {
  await checkEnd(file)
  const { RecordBatchReader } = await import('apache-arrow')
  try {
    const reader = await RecordBatchReader.from(readCounted(file, onBytes))
    await reader.open()
    for await (const batch of reader) yield batch as RecordBatch
  } catch (error) {
    if (error instanceof EspalierError) throw error
    throw new EspalierError('invalid', `${file} cannot be read as an Arrow file: ${reasonOf(error)}. Save it again, uncompressed.`, {
      file,
    })
  }
}

// A stream ends with this mark, a file with the word ARROW1. Without either, the data was truncated. A cut between two batches shows
// nowhere else.
const streamEnd = 'ffffffff00000000'
const fileEnd = Buffer.from('ARROW1').toString('hex')

async function checkEnd(file: string): Promise<void> {
  const handle = await openRegular(file)
  try {
    const { size } = await handle.stat()
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(8), 0, 8, Math.max(0, size - 8))
    const end = buffer.toString('hex', 0, bytesRead)
    if (end === streamEnd || end.endsWith(fileEnd)) return
  } finally {
    await handle.close()
  }
  throw new EspalierError('invalid', `${file} does not end like an Arrow file. It is cut off, or not an Arrow file. Download it again.`, {
    file,
  })
}

function* textsOf(batch: RecordBatch, file: string): Generator<string> {
  const names = batch.schema.fields.map(({ name }) => String(name))
  const column = textFields.find((field) => names.includes(field))
  if (!column)
    throw new EspalierError('invalid', `${file} has no column "text" or "content"; its columns are ${names.slice(0, 12).join(', ')}.`, {
      file,
    })
  for (const value of batch.getChild(column) ?? []) {
    if (typeof value !== 'string' && value !== null) {
      throw new EspalierError('invalid', `${file} has a ${typeof value} in column "${column}"; every value must be text.`, { file })
    }
    yield value ?? ''
  }
}

/** Yields the text column of a Parquet file, with one row group in memory at a time. */
async function* readParquet(file: string, { onBytes }: Reading = {}): AsyncGenerator<string> {
  let column = ''
  const choose = (metadata: FileMetaData) => {
    column = findColumn(metadata, file)
    return [column]
  }
  for await (const row of readParquetRows(file, choose, onBytes)) yield toText(row[column], column, file)
}

/** Yields the rows of a Parquet file with the chosen columns (default: all), with one row group in memory at a time. */
export async function* readParquetRows(
  file: string,
  choose: (metadata: FileMetaData) => string[] | undefined,
  onBytes?: OnBytes,
): AsyncGenerator<Record<string, unknown>> {
  const { parquetMetadataAsync, parquetReadObjects } = await import('hyparquet')
  const { compressors } = await import('hyparquet-compressors')
  const handle = await openRegular(file)
  try {
    const buffer = bufferOf(handle, (await handle.stat()).size, onBytes)
    const metadata = await parquetMetadataAsync(buffer).catch((error: unknown) => broken(file, error))
    const columns = choose(metadata)
    let rowStart = 0
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows)
      const range = { file: buffer, metadata, ...(columns ? { columns } : {}), rowStart, rowEnd, compressors }
      yield* await parquetReadObjects(range).catch((error: unknown) => broken(file, error))
      rowStart = rowEnd
    }
  } finally {
    await handle.close()
  }
}

/** Wraps an open file for the Parquet library. Requests beyond the end of the file throw. */
function bufferOf(handle: FileHandle, byteLength: number, onBytes?: OnBytes): AsyncBuffer {
  return {
    byteLength,
    async slice(start, end = byteLength) {
      if (!(start >= 0 && start <= end && end <= byteLength)) throw new Error(`it points at bytes ${start} to ${end} of ${byteLength}`)
      const bytes = new Uint8Array(end - start)
      allowFor(bytes.length)
      onBytes?.(bytes.length)
      await handle.read(bytes, 0, bytes.length, start)
      return bytes.buffer
    },
  }
}

function findColumn(metadata: FileMetaData, file: string): string {
  const names = metadata.schema.slice(1).map(({ name }) => name)
  const column = textFields.find((field) => names.includes(field))
  if (column) return column
  throw new EspalierError('invalid', `${file} has no column "text" or "content"; its columns are ${names.slice(0, 12).join(', ')}.`, {
    file,
  })
}

function toText(value: unknown, column: string, file: string): string {
  if (typeof value === 'string') return value
  if (value === null || value === undefined) return ''
  throw new EspalierError('invalid', `${file} has a ${typeof value} in column "${column}"; every value must be text.`, { file })
}

function broken(file: string, error: unknown): never {
  throw new EspalierError('invalid', `${file} cannot be read as a Parquet file: ${reasonOf(error)}. Download it again.`, { file })
}
