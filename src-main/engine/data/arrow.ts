import { createReadStream } from 'node:fs'
import type { RecordBatch } from 'apache-arrow'
import { EspalierError } from '#contract/errors.ts'
import { textFields } from './json-lines.ts'

/** The text column of an Arrow IPC file (stream or file form), one record batch in memory at a time. */
export async function* readArrow(file: string): AsyncGenerator<string> {
  const { RecordBatchReader } = await import('apache-arrow')
  const stream = createReadStream(file)
  try {
    const reader = await RecordBatchReader.from(stream)
    await reader.open()
    for await (const batch of reader) yield* textsOf(batch as RecordBatch, file)
  } catch (error) {
    if (error instanceof EspalierError) throw error
    throw new EspalierError('invalid', `${file} is no readable Arrow file: ${(error as Error).message}. Fetch it again.`, { file })
  } finally {
    stream.destroy()
  }
}

function* textsOf(batch: RecordBatch, file: string): Generator<string> {
  const names = batch.schema.fields.map(({ name }) => String(name))
  const column = textFields.find((field) => names.includes(field))
  if (!column) throw new EspalierError('invalid', `${file} has no column text or content; its columns are ${names.slice(0, 12).join(', ')}.`, { file })
  for (const value of batch.getChild(column) ?? []) {
    if (typeof value !== 'string' && value !== null) {
      throw new EspalierError('invalid', `${file} has a ${typeof value} in column ${column}, text is needed.`, { file })
    }
    yield value ?? ''
  }
}
