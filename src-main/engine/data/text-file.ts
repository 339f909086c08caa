import { stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { EspalierError } from '#contract/errors.ts'
import { reasonOf } from '../checkpoint/json.ts'
import { readPieces } from '../checkpoint/regular-file.ts'
import { allowFor } from '../limits/reading.ts'

const grouped = (count: number): string => count.toLocaleString('en')

// V8 cannot hold longer strings.
const longestText = 2 ** 29 - 1024

/**
 * Limits on the unpacked size of a gzipped file. Text shrinks to a twentieth at best, so a file that shrinks to a hundredth is not text.
 */
const unpacking = { times: 100, leastBytes: 64e6 } as const

/** Hears how many bytes of a file were read. */
export type OnBytes = (bytes: number) => void

/** The text of a file in pieces, unpacked if its name ends in `.gz`. Throws `invalid` for broken gzip and for bytes that are not UTF-8. */
export async function* readChunks(file: string, onBytes?: OnBytes): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const packed = file.toLowerCase().endsWith('.gz')
  try {
    for await (const bytes of packed ? unpack(file, onBytes) : readCounted(file, onBytes)) yield decoder.decode(bytes, { stream: true })
    yield decoder.decode()
  } catch (error) {
    throw explain(error, file)
  }
}

export async function* readCounted(file: string, onBytes?: OnBytes): AsyncGenerator<Uint8Array> {
  for await (const bytes of readPieces(file)) {
    onBytes?.(bytes.length)
    yield bytes
  }
}

async function* unpack(file: string, onBytes?: OnBytes): AsyncGenerator<Uint8Array> {
  const { size } = await stat(file)
  const most = Math.max(unpacking.leastBytes, unpacking.times * size)
  const raw = Readable.from(readCounted(file, onBytes))
  const stream = raw.pipe(createGunzip())
  raw.on('error', (error) => stream.destroy(error))
  let unpacked = 0
  try {
    for await (const bytes of stream as AsyncIterable<Uint8Array>) {
      unpacked += bytes.length
      if (unpacked > most)
        throw new EspalierError(
          'invalid',
          `${file} (${grouped(size)} bytes) unpacks to more than ${grouped(most)} bytes, the limit for its size. Text never shrinks this much.`,
          {
            file,
          },
        )
      allowFor(bytes.length)
      yield bytes
    }
  } finally {
    stream.destroy()
    raw.destroy()
  }
}

function explain(error: unknown, file: string): unknown {
  if (!(error instanceof Error)) return error
  const code = 'code' in error ? String(error.code) : ''
  if (code.startsWith('Z_'))
    return new EspalierError('invalid', `${file} is not valid gzip: ${reasonOf(error)}. Download it again.`, { file })
  if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA')
    return new EspalierError('invalid', `${file} is not UTF-8 text. Convert it to UTF-8.`, { file })
  return error
}

/** The whole text of a file as one document. */
export async function* readWholeText(file: string, { onBytes }: { onBytes?: OnBytes } = {}): AsyncGenerator<string> {
  yield await joinChunks(readChunks(file, onBytes), file)
}

/** Joins pieces of text. Throws if the text is longer than a string can be. */
export async function joinChunks(chunks: AsyncIterable<string>, file: string): Promise<string> {
  const parts: string[] = []
  let length = 0
  for await (const chunk of chunks) {
    length += chunk.length
    if (length > longestText) {
      throw new EspalierError(
        'invalid',
        `${file} holds more than ${grouped(longestText)} characters in one piece. Split it, or use JSON lines or Parquet.`,
        { file },
      )
    }
    parts.push(chunk)
  }
  return parts.join('')
}
