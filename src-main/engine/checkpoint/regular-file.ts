import { constants } from 'node:fs'
import { access, type FileHandle, open, stat } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { allowFor } from '../limits/reading.ts'
import { alignedBuffer } from './aligned-buffer.ts'
import { reasonOf } from './json.ts'

// One system call reads less than 2 GiB.
const largestRead = 2 ** 30

const largestText = 100_000_000

// Without it, opening a pipe waits for a writer. Windows has neither.
const openFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)

/** Opens a file for reading, or throws when it is missing or no regular file (a pipe would wait for ever). */
export async function openRegular(file: string): Promise<FileHandle> {
  const found = await stat(file).catch(() => undefined)
  if (!found) throw new EspalierError('not-found', `${file} does not exist.`, { file })
  if (!found.isFile()) throw notRegular(file)
  const handle = await open(file, openFlags).catch((error: unknown) => {
    throw new EspalierError('disk', `${file} cannot be opened: ${reasonOf(error)}.`, { file })
  })
  // What had that name may have given way meanwhile.
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  throw notRegular(file)
}

function notRegular(file: string): EspalierError {
  return new EspalierError('invalid', `${file} is not a regular file. Give a file that was written to the disk.`, { file })
}

/** The text of a small file such as config.json. */
export async function readText(file: string): Promise<string> {
  const handle = await openRegular(file)
  try {
    const { size } = await handle.stat()
    if (size > largestText)
      throw new EspalierError('invalid', `${file} is ${size} bytes long, at most ${largestText} are allowed.`, { file })
    allowFor(size)
    return Buffer.from(await readPart(handle, 0, size, file)).toString('utf8')
  } finally {
    await handle.close()
  }
}

/** A file's bytes in pieces, no more of them than it has when it is opened: some files of the system never end. */
export async function* readPieces(file: string, pieceBytes = 2 ** 18): AsyncGenerator<Uint8Array> {
  const handle = await openRegular(file)
  try {
    const { size } = await handle.stat()
    for (let position = 0; position < size; ) {
      const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(Math.min(pieceBytes, size - position)), 0, null, position)
      if (bytesRead === 0) return
      position += bytesRead
      allowFor(bytesRead)
      yield buffer.subarray(0, bytesRead)
    }
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
