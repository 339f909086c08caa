import { basename } from 'node:path'
import { endingOf } from '#contract/data/text-endings.ts'
import { EspalierError } from '#contract/errors.ts'
import { describe, isObject } from '../checkpoint/json.ts'
import { parseJsonValues, readArrowBatches, readParquetRows } from './source.ts'
import { joinChunks, readChunks } from './text-file.ts'

/** One row of a table: column name to value; lists are arrays, structs are objects, whole numbers are numbers. */
export type Row = Record<string, unknown>

const readers: Record<string, (file: string) => AsyncIterable<unknown>> = {
  jsonl: readLines,
  ndjson: readLines,
  json: readJson,
  parquet: (file) => readParquetRows(file, () => undefined),
  arrow: readArrowRows,
}

/** Endings of the files that rows can be read from. JSON files may also be gzipped (`.gz`). */
export const rowEndings = Object.keys(readers)

/** Yields the rows of a JSONL, JSON (lines, or an array of objects), Parquet or Arrow file, with all columns. */
export async function* readRows(file: string): AsyncGenerator<Row> {
  const ending = endingOf(basename(file))
  const read = Object.hasOwn(readers, ending) ? readers[ending] : undefined
  if (!read)
    throw new EspalierError(
      'invalid',
      `${file} has an ending that Espalier reads no rows from. Use one of ${rowEndings.map((known) => `.${known}`).join(', ')}.`,
    )
  let number = 0
  for await (const value of read(file)) {
    number++
    const row = toPlain(value)
    if (!isObject(row))
      throw new EspalierError('invalid', `Row ${number} of ${file} is ${describe(row)}; it must be an object with a field per column.`, {
        file,
      })
    yield row
  }
}

async function* readLines(file: string): AsyncGenerator<unknown> {
  for await (const { value } of parseJsonValues(readChunks(file), file)) yield value
}

async function* readJson(file: string): AsyncGenerator<unknown> {
  const text = await joinChunks(readChunks(file), file)
  if (!text.trimStart().startsWith('[')) {
    yield* readLines(file)
    return
  }
  try {
    yield* JSON.parse(text) as unknown[]
  } catch (error) {
    throw new EspalierError('invalid', `${file} is not JSON: ${(error as Error).message}.`, { file })
  }
}

async function* readArrowRows(file: string): AsyncGenerator<unknown> {
  for await (const batch of readArrowBatches(file)) yield* batch
}

/** Converts a value to JSON's types: 64-bit integers to numbers, vectors and typed arrays to arrays, structs to objects. */
function toPlain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  if (typeof value !== 'object' || value === null) return value
  if ('toJSON' in value && typeof value.toJSON === 'function') return toPlain(value.toJSON())
  if (Array.isArray(value)) return value.map(toPlain)
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<unknown>, toPlain)
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toPlain(item)]))
}
