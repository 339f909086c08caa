import type { FileHandle } from 'node:fs/promises'
import type { AsyncBuffer, FileMetaData } from 'hyparquet'
import { EspalierError } from '#contract/errors.ts'
import { openRegular } from '#runtime/small-file.ts'
import { reasonOf } from '../checkpoint/json.ts'
import { allowFor } from '../limits/reading.ts'
import { textFields } from './json-lines.ts'

/** Yields the text column of a Parquet file, with one row group in memory at a time. */
export async function* readParquet(file: string): AsyncGenerator<string> {
  let column = ''
  const choose = (metadata: FileMetaData) => {
    column = findColumn(metadata, file)
    return [column]
  }
  for await (const row of readParquetRows(file, choose)) yield toText(row[column], column, file)
}

/** Yields the rows of a Parquet file with the chosen columns (default: all), with one row group in memory at a time. */
export async function* readParquetRows(
  file: string,
  choose: (metadata: FileMetaData) => string[] | undefined,
): AsyncGenerator<Record<string, unknown>> {
  const { parquetMetadataAsync, parquetReadObjects } = await import('hyparquet')
  const { compressors } = await import('hyparquet-compressors')
  const handle = await openRegular(file)
  try {
    const buffer = bufferOf(handle, (await handle.stat()).size)
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
function bufferOf(handle: FileHandle, byteLength: number): AsyncBuffer {
  return {
    byteLength,
    async slice(start, end = byteLength) {
      if (!(start >= 0 && start <= end && end <= byteLength)) throw new Error(`it points at bytes ${start} to ${end} of ${byteLength}`)
      const bytes = new Uint8Array(end - start)
      allowFor(bytes.length)
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
