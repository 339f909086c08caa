import type { FileHandle } from 'node:fs/promises'

const largestWrite = 2 ** 30

/** Writes all bytes at the file's position; one system call may write less than it was given. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0
  while (done < bytes.byteLength) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(largestWrite, bytes.byteLength - done))
    done += bytesWritten
  }
}
