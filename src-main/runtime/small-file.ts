import { constants } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import type { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'

/** Default limit in bytes. The largest such files are tokenizers and the indexes of many shards. */
const largestText = 100_000_000

// Without O_NONBLOCK, opening a pipe waits for a writer. Windows has neither such pipes nor this flag.
const openFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)

/** Opens a file for reading. Throws if it is missing or not a regular file, because reading a pipe could wait forever. */
export async function openRegular(file: string): Promise<FileHandle> {
  const found = await stat(file).catch(() => undefined)
  if (!found) throw new EspalierError('not-found', `${file} does not exist.`, { file })
  if (!found.isFile()) throw notRegular(file)
  const handle = await open(file, openFlags).catch((error: Error) => {
    throw new EspalierError('disk', `${file} cannot be opened: ${error.message}.`, { file })
  })
  // Another file may have taken this name since the first check.
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw notRegular(file)
}

function notRegular(file: string): EspalierError {
  return new EspalierError('invalid', `${file} is not a regular file. Give a file on disk, not a folder, pipe or device.`, { file })
}

/**
 * Reads the text of a small file, such as config.json, a manifest or a token. Throws if the file is missing, is not a regular file, or has
 * more than `mostBytes`. `allow` is called with the size before the file is read, and may throw too.
 */
export async function readSmallFile(file: string, mostBytes = largestText, allow?: (bytes: number) => void): Promise<string> {
  const handle = await openRegular(file)
  try {
    const { size } = await handle.stat()
    if (size > mostBytes)
      throw new EspalierError(
        'invalid',
        `${file} has ${size.toLocaleString('en')} bytes; at most ${mostBytes.toLocaleString('en')} are allowed.`,
        { file },
      )
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

/** Reads a small JSON file. Returns undefined if it is missing or unreadable, or if the schema does not accept it. */
export async function readSmallJson<T extends z.ZodType>(schema: T, file: string, mostBytes?: number): Promise<z.output<T> | undefined> {
  try {
    return schema.safeParse(JSON.parse(await readSmallFile(file, mostBytes))).data
  } catch {
    return undefined
  }
}
