import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { extname, relative } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { confinedPath } from './guard/path-of-address.ts'
import { Refusal } from './guard/refusal.ts'

const compress = promisify(gzip)

const typeOfExtension: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
}

export interface PageFile {
  bytes: Buffer
  /** Only if it is smaller than `bytes`. */
  gzipped: Buffer | undefined
  type: string
  /** Hash of `bytes`, without quotes. */
  tag: string
  /** Built files have a hash in their name and never change. */
  immutable: boolean
}

export type PageFiles = (path: string) => Promise<PageFile>

/** Reads the built screens from `folder` by URL path, and caches them until they change on disk. */
export function openPageFiles(folder: string): PageFiles {
  const kept = new Map<string, { stamp: string; file: PageFile }>()
  return async (path) => {
    const target = await confinedPath(folder, path === '/' ? '/index.html' : path)
    const status = await stat(target)
    if (!status.isFile()) throw new Refusal(404, 'There is no such file.')
    const stamp = `${status.mtimeMs} ${status.size}`
    const known = kept.get(target)
    if (known?.stamp === stamp) return known.file
    const file = await readPageFile(target, /(^|[\\/])assets[\\/]/.test(relative(folder, target)))
    kept.set(target, { stamp, file })
    return file
  }
}

async function readPageFile(target: string, immutable: boolean): Promise<PageFile> {
  const type = typeOfExtension[extname(target).toLowerCase()]
  if (type === undefined) throw new Refusal(404, 'There is no such file.')
  const bytes = await readFile(target)
  const gzipped = type.includes('charset') && bytes.length > 1024 ? await compress(bytes) : undefined
  const tag = createHash('sha256').update(bytes).digest('base64url').slice(0, 27)
  return { bytes, gzipped: gzipped && gzipped.length < bytes.length ? gzipped : undefined, type, tag, immutable }
}
