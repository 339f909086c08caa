import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { openRegular } from '#runtime/small-file.ts'
import { underLimits } from '../limits/reading.ts'
import { type ModelFile, modelFiles } from './model-files.ts'

/**
 * A key that changes whenever a file of the model is written, replaced or moved away. It depends on sizes, times and inode numbers only.
 * What identifies a model is its content (`modelContents`), but reading that takes seconds to minutes; an unchanged quick key means that
 * the content need not be read again.
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

/** The model's files. A shard index that lists them is untrusted, so it is read under resource limits. */
const filesOf = (path: string): Promise<ModelFile[]> => underLimits(path, () => modelFiles(path))

interface HashingReport {
  readonly signal?: AbortSignal
  progress?(doneBytes: number, totalBytes: number): void
}

const pieceBytes = 4 * 2 ** 20

/** SHA-256 over the names, sizes and content of a model's files. Throws `conflict` if one of them changes during the reading. */
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
  throw new EspalierError('conflict', `${path} changed while it was being read. Retry when no program is writing there.`)
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
