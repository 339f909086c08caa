import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { openRegular } from '#runtime/small-file.ts'
import { underLimits } from '../limits/reading.ts'
import { type ModelFile, modelFiles } from './model-files.ts'

/**
 * What identifies a model: its content, by `modelContents`. Reading all of it takes seconds to minutes, so the quick key decides whether
 * that is needed again. It changes whenever a file of the model is written, replaced or moved away.
 */
export async function quickKeyOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for (const file of await filesOf(path)) {
    const found = await stat(file.path, { bigint: true }).catch(() => undefined)
    const facts = found ? [found.size, found.mtimeNs, found.ctimeNs, found.ino].join(' ') : 'absent'
    hash.update(`${JSON.stringify(file.name)} ${facts}\n`)
  }
  return hash.digest('hex')
}

/** An index file may list them. It is not trusted, so it is read under limits. */
const filesOf = (path: string): Promise<ModelFile[]> => underLimits(path, () => modelFiles(path))

interface HashingReport {
  readonly signal?: AbortSignal
  progress?(doneBytes: number, totalBytes: number): void
}

const pieceBytes = 4 * 2 ** 20

/** SHA-256 over the names and the content of a model's files. Throws `conflict` if they are written meanwhile. */
export async function modelContents(path: string, report: HashingReport = {}): Promise<string> {
  const before = await quickKeyOf(path)
  const files = await sizesOf(path)
  const total = files.reduce((sum, { size }) => sum + size, 0)
  const hash = createHash('sha256')
  let done = 0
  for (const file of files) {
    hash.update(`${JSON.stringify(file.name)} ${file.size}\n`)
    for await (const piece of piecesOf(file.path, file.size)) {
      report.signal?.throwIfAborted()
      hash.update(piece)
      done += piece.length
      report.progress?.(done, total)
    }
  }
  if ((await quickKeyOf(path)) === before) return hash.digest('hex')
  throw new EspalierError('conflict', `${path} was written while its content was read. Retry when nothing writes there.`)
}

async function sizesOf(path: string): Promise<{ name: string; path: string; size: number }[]> {
  const found = await Promise.all(
    (await filesOf(path)).map(async (file) => ({ ...file, size: (await stat(file.path).catch(() => undefined))?.size })),
  )
  return found.flatMap(({ size, ...file }) => (size === undefined ? [] : { ...file, size }))
}

async function* piecesOf(file: string, size: number): AsyncGenerator<Uint8Array> {
  const handle = await openRegular(file)
  const buffer = Buffer.allocUnsafe(Math.max(1, Math.min(pieceBytes, size)))
  try {
    for (let position = 0; position < size; ) {
      const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, size - position), position)
      if (bytesRead === 0) return
      position += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await handle.close()
  }
}
