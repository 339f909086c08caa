import { access, type FileHandle, open, stat } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { alignedBuffer } from './aligned-buffer.ts'
import { reasonOf } from './json.ts'

// One system call reads less than 2 GiB.
const largestRead = 2 ** 30

const largestText = 500_000_000

/** Opens a file for reading, or throws when it is missing or no regular file (a pipe would wait for ever). */
export async function openRegular(file: string): Promise<FileHandle> {
  const found = await stat(file).catch(() => undefined)
  if (!found) throw new EspalierError('not-found', `${file} does not exist.`, { file })
  if (!found.isFile()) throw new EspalierError('invalid', `${file} is not a regular file.`, { file })
  return open(file, 'r').catch((error: unknown) => {
    throw new EspalierError('disk', `${file} cannot be opened: ${reasonOf(error)}.`, { file })
  })
}

/** The text of a small file such as config.json. */
export async function readText(file: string): Promise<string> {
  const handle = await openRegular(file)
  try {
    const { size } = await handle.stat()
    if (size > largestText)
      throw new EspalierError('invalid', `${file} is ${size} bytes long, at most ${largestText} are allowed.`, { file })
    return await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
}

/** Reads `bytes` bytes from `position` into fresh memory from `alignedBuffer`. Throws when the file ends before. */
export async function readPart(handle: FileHandle, position: number, bytes: number, file: string): Promise<Uint8Array> {
  const memory = alignedBuffer(bytes)
  let done = 0
  while (done < bytes) {
    const { bytesRead } = await handle.read(memory, done, Math.min(largestRead, bytes - done), position + done)
    if (bytesRead === 0) {
      throw new EspalierError('invalid', `${file} ends at byte ${position + done}, ${position + bytes} were expected. It is cut off.`, {
        file,
      })
    }
    done += bytesRead
  }
  return memory
}

export function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}
