import { createHash } from 'node:crypto'
import { createReadStream, readdirSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { pipeline } from 'node:stream/promises'

/** Hashes the entire content of a file or folder, including the names inside it. */
export async function contentHash(path: string): Promise<string> {
  const hash = createHash('sha256')
  for (const file of filesUnder(path)) {
    hash.update(`${relative(path, file)}\n${statSync(file).size}\n`)
    await pipeline(createReadStream(file), hash, { end: false })
  }
  return hash.digest('hex')
}

function filesUnder(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesUnder(join(path, name)))
}
