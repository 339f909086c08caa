import { createHash } from 'node:crypto'
import { closeSync, createReadStream, openSync, readdirSync, readSync, statSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { pipeline } from 'node:stream/promises'

const samples = 64
const sampleBytes = 4096

/**
 * Names a model by its contents, wherever it lies: names, sizes and samples of its files, spread evenly and with their ends. Reading
 * gigabytes for a name would take longer than much that is shared by it.
 */
export function modelFingerprint(path: string): string {
  const hash = createHash('sha256')
  for (const file of modelFiles(path)) {
    const { size } = statSync(file)
    hash.update(`${basename(file)}\n${size}\n`)
    const handle = openSync(file, 'r')
    try {
      for (const position of positionsIn(size)) {
        const buffer = Buffer.alloc(sampleBytes)
        hash.update(buffer.subarray(0, readSync(handle, buffer, 0, sampleBytes, position)))
      }
    } finally {
      closeSync(handle)
    }
  }
  return hash.digest('hex')
}

function modelFiles(path: string): string[] {
  const folder = statSync(path).isDirectory() ? path : dirname(path)
  const names = folder === path ? readdirSync(folder).filter((name) => /\.(safetensors|gguf|json)$/.test(name)) : [basename(path)]
  return names.sort().map((name) => join(folder, name))
}

function positionsIn(size: number): number[] {
  const last = Math.max(0, size - sampleBytes)
  const spread = Array.from({ length: samples }, (_, at) => Math.floor((last * at) / (samples - 1)))
  return [...new Set(spread)]
}

/** Names a file or folder by all that it holds. */
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
