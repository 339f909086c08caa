import { constants } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import type { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'

/** Of a tokenizer or the index of many shards. */
const largestText = 100_000_000

// Without it, opening a pipe waits for a writer. Windows has neither.
const openFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)

/** Opens a file for reading, or throws when it is missing or no regular file (a pipe would wait for ever). */
export async function openRegular(file: string): Promise<FileHandle> {
  const found = await stat(file).catch(() => undefined)
  if (!found) throw new EspalierError('not-found', `${file} does not exist.`, { file })
  if (!found.isFile()) throw notRegular(file)
  const handle = await open(file, openFlags).catch((error: Error) => {
    throw new EspalierError('disk', `${file} cannot be opened: ${error.message}.`, { file })
  })
  // What had that name may have given way meanwhile.
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw notRegular(file)
}

function notRegular(file: string): EspalierError {
  return new EspalierError('invalid', `${file} is not a regular file. Give a file that was written to the disk.`, { file })
}

/**
 * The text of a small file, such as config.json, a manifest or a token: the one place that reads them. Throws when there is none, when it is
 * no regular file, and when it has more than `mostBytes`. `allow` hears of the size before it is read.
 */
export async function readSmallFile(file: string, mostBytes = largestText, allow?: (bytes: number) => void): Promise<string> {
  const handle = await openRegular(file)
  try {
    const { size } = await handle.stat()
    if (size > mostBytes) throw new EspalierError('invalid', `${file} is ${size} bytes long, at most ${mostBytes} are allowed.`, { file })
    allow?.(size)
    const buffer = Buffer.allocUnsafe(size)
    for (let done = 0; done < size; ) {
      const { bytesRead } = await handle.read(buffer, done, size - done, done)
      if (bytesRead === 0) throw new EspalierError('invalid', `${file} became shorter while it was read. Try again.`, { file })
      done += bytesRead
    }
    return buffer.toString('utf8')
  } finally {
    await handle.close()
  }
}

/** What a small JSON file holds; undefined if it is missing or unreadable, or if the schema does not accept it. */
export async function readSmallJson<T extends z.ZodType>(schema: T, file: string, mostBytes?: number): Promise<z.output<T> | undefined> {
  try {
    return schema.safeParse(JSON.parse(await readSmallFile(file, mostBytes))).data
  } catch {
    return undefined
  }
}
