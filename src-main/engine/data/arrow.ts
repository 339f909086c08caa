import type { RecordBatch } from 'apache-arrow'
import { EspalierError } from '#contract/errors.ts'
import { openRegular } from '#runtime/small-file.ts'
import { reasonOf } from '../checkpoint/json.ts'
import { readPieces } from '../checkpoint/regular-file.ts'
import { textFields } from './json-lines.ts'

/** Yields the text column of an uncompressed Arrow IPC file (stream or file form), with one record batch in memory at a time. */
export async function* readArrow(file: string): AsyncGenerator<string> {
  for await (const batch of readArrowBatches(file)) yield* textsOf(batch, file)
}

/** Yields the record batches of an uncompressed Arrow IPC file, with one in memory at a time. */
export async function* readArrowBatches(file: string): AsyncGenerator<RecordBatch> {
  await checkEnd(file)
  const { RecordBatchReader } = await import('apache-arrow')
  try {
    const reader = await RecordBatchReader.from(readPieces(file))
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
