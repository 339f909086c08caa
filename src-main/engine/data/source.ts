import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { readArrow } from './arrow.ts'
import { listDataFiles } from './data-folder.ts'
import { openJson } from './json-file.ts'
import { type KindFilter, readJsonLines } from './json-lines.ts'
import { readParquet } from './parquet.ts'
import { readWholeText } from './text-file.ts'
import type { TextSource } from './text-source.ts'

interface TextLimits {
  /** Documents to read from the start, by default all. */
  maxDocuments?: number
}

type Reader = (file: string, accepts?: KindFilter) => AsyncIterable<string>

const readers: Record<string, Reader> = {
  txt: readWholeText,
  text: readWholeText,
  md: readWholeText,
  jsonl: readJsonLines,
  ndjson: readJsonLines,
  parquet: readParquet,
  arrow: readArrow,
}

/** Endings of the files that can be read. Text and JSON files may also be gzipped (`.gz`). */
export const dataEndings = [...Object.keys(readers), 'json']

/**
 * Opens a text source: `.txt` (one document), `.jsonl` (field `text` or `content`), `.json` (JSON lines, or an array of strings, objects or
 * token ids), each also gzipped, `.parquet` and `.arrow` (column `text` or `content`), a folder that `datasets` saved, or a folder of such
 * files. Documents are read on demand. Every defect throws an EspalierError that names the file. `accepts` selects documents of a JSON
 * lines file by their field `kind`, if it has one.
 */
export async function openSource(path: string, accepts?: KindFilter): Promise<TextSource> {
  const found = await stat(path).catch(() => undefined)
  if (!found)
    throw new EspalierError('not-found', `There is no data at ${path}. Give a text, JSONL, Parquet or Arrow file, or a folder of them.`)
  if (found.isDirectory()) return openDataFolder(path)
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
  const ending = basename(file).toLowerCase().replace(/\.gz$/, '').split('.').at(-1) ?? ''
  if (ending === 'json') return openJson(file)
  const read = Object.hasOwn(readers, ending) ? readers[ending] : undefined
  if (read) return { kind: 'documents', documents: () => read(file, accepts) }
  throw new EspalierError(
    'invalid',
    `${file} has an ending that Espalier does not read. Use one of ${dataEndings.map((known) => `.${known}`).join(', ')}; text and JSON files may be gzipped (.gz).`,
  )
}

async function openDataFolder(folder: string): Promise<TextSource> {
  const files = await listDataFiles(folder, dataEndings)
  const [only] = files
  if (files.length === 1 && only !== undefined) return openFile(only)
  return { kind: 'documents', documents: () => readAll(files) }
}

async function* readAll(files: string[]): AsyncGenerator<string> {
  for (const file of files) {
    const source = await openFile(file)
    if (source.kind !== 'documents')
      throw new EspalierError(
        'invalid',
        `${file} holds token ids but is in a folder with other files. Give the file itself, not its folder.`,
      )
    yield* source.documents()
  }
}
