import { access, type FileHandle } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { openRegular, readSmallFile } from '#runtime/small-file.ts'
import { allowFor } from '../limits/reading.ts'
import { alignedBuffer } from './aligned-buffer.ts'

// A single system call cannot read 2 GiB or more.
const largestRead = 2 ** 30

/** Reads a small untrusted text file, such as config.json. */
export const readText = (file: string): Promise<string> => readSmallFile(file, undefined, allowFor)

/** Yields a file's bytes in pieces, up to the size that it has when it is opened, because some system files never end. */
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

/** Reads `bytes` bytes from `position` into new memory from `alignedBuffer`. Throws if the file ends earlier. */
export async function readBytes(handle: FileHandle, position: number, bytes: number, file: string): Promise<Uint8Array> {
  const memory = alignedBuffer(bytes)
  let done = 0
  while (done < bytes) {
    const { bytesRead } = await handle.read(memory, done, Math.min(largestRead, bytes - done), position + done)
    if (bytesRead === 0) {
      throw new EspalierError(
        'invalid',
        `${file} ends at byte ${position + done}, but should have at least ${position + bytes} bytes. It is cut off.`,
        {
          file,
        },
      )
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
