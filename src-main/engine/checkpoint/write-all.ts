import { type FileHandle, open, rm } from 'node:fs/promises'

const largestWrite = 2 ** 30

/** Writes all bytes at the file's current position, in several calls if necessary: one system call may write less than requested. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0
  while (done < bytes.byteLength) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(largestWrite, bytes.byteLength - done))
    done += bytesWritten
  }
}

/** Creates a file, lets `write` fill it, and waits until it is on disk. Removes the file on failure. */
export async function writeWhole(file: string, write: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await open(file, 'w')
  try {
    await write(handle)
    await handle.sync()
    await handle.close()
  } catch (error) {
    await handle.close().catch(() => undefined)
    await rm(file, { force: true })
    throw error
  }
}
