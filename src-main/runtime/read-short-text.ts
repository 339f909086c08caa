import { open, stat } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'

/** The text of a file that a flag names. Throws `usage` for a missing file, a pipe or device, and more than `mostBytes`. */
export async function readShortText(file: string, flag: string, mostBytes = 1_000_000): Promise<string> {
  const found = await stat(file).catch(() => undefined)
  if (!found) throw new EspalierError('usage', `${flag} is "${file}", which does not exist or cannot be read.`)
  if (!found.isFile()) throw new EspalierError('usage', `${flag} is "${file}", which is not a regular file.`)
  const handle = await open(file).catch(() => {
    throw new EspalierError('usage', `${flag} is "${file}", which cannot be opened. Check its permissions.`)
  })
  try {
    // One byte more than allowed tells a longer file, also one that grows or states no size.
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(mostBytes + 1), 0, mostBytes + 1, 0)
    if (bytesRead <= mostBytes) return buffer.toString('utf8', 0, bytesRead)
    throw new EspalierError('usage', `${flag} is "${file}", which has more than ${mostBytes / 1000} kB. Give a shorter file.`)
  } finally {
    await handle.close()
  }
}
