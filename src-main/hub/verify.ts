import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'

/** Whether a file matches the hub's hash: sha256 of the bytes (64 digits) or git's sha1 of the blob (40 digits). */
export async function hasHash(path: string, hash: string, bytes: number, signal: AbortSignal): Promise<boolean> {
  const hasher = createHash(hash.length === 64 ? 'sha256' : 'sha1')
  if (hash.length === 40) hasher.update(`blob ${bytes}\0`)
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal })) hasher.update(chunk)
  return hasher.digest('hex') === hash
}
