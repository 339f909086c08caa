import type { AsyncBuffer, FileMetaData } from 'hyparquet'
import { EspalierError } from '#contract/errors.ts'
import { textFields } from './json-lines.ts'

/** The text column of a Parquet file, one row group in memory at a time. */
export async function* readParquet(file: string): AsyncGenerator<string> {
  const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } = await import('hyparquet')
  const { compressors } = await import('hyparquet-compressors')
  const buffer: AsyncBuffer = await asyncBufferFromFile(file)
  const metadata = await parquetMetadataAsync(buffer).catch((error: Error) => broken(file, error))
  const column = findColumn(metadata, file)
  let rowStart = 0
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows)
    const rows = await parquetReadObjects({ file: buffer, metadata, columns: [column], rowStart, rowEnd, compressors }).catch((error: Error) => broken(file, error))
    for (const row of rows) yield toText(row[column], column, file)
    rowStart = rowEnd
  }
}

function findColumn(metadata: FileMetaData, file: string): string {
  const names = metadata.schema.slice(1).map(({ name }) => name)
  const column = textFields.find((field) => names.includes(field))
  if (column) return column
  throw new EspalierError('invalid', `${file} has no column text or content; its columns are ${names.slice(0, 12).join(', ')}.`, { file })
}

function toText(value: unknown, column: string, file: string): string {
  if (typeof value === 'string') return value
  if (value === null || value === undefined) return ''
  throw new EspalierError('invalid', `${file} has a ${typeof value} in column ${column}, text is needed.`, { file })
}

function broken(file: string, error: Error): never {
  throw new EspalierError('invalid', `${file} is no readable Parquet file: ${error.message}. Fetch it again.`, { file })
}
