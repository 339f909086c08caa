import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'
import type { Database } from './database.ts'

/** JSON up to this size is stored in the history; larger values get their own file. */
export const inlineBytes = 256 * 1024

/** A value in the row itself, or in the file `<bytes>-<sha256>.json`, whose name verifies its content. */
export interface StoredValue {
  value: string | null
  file: string | null
  bytes: number
}

/** A file younger than this may belong to a row that another process is about to write. */
const sweepAgeMilliseconds = 600_000

/** Tests replace this with a writer that fails like a full disk. */
export type WriteFile = (file: string, content: Buffer) => void

/** The files that rows refer to. */
const usedFiles = `
  SELECT file FROM steps WHERE file IS NOT NULL UNION SELECT plan_file FROM run_documents UNION SELECT scores_file FROM run_documents
  UNION SELECT questions_file FROM run_documents
  UNION SELECT tensors ->> '$.file' FROM steps WHERE tensors IS NOT NULL
  UNION SELECT value ->> '$.file' FROM run_documents, json_each(run_documents.tensors)`

/** Stores large JSON values in files beside the history, which are named by their content and written atomically. */
export class ValueStore {
  readonly tensorFolder: string
  readonly #folder: string
  readonly #write: WriteFile

  constructor(folder: string, write: WriteFile = writeDurably) {
    this.#folder = folder
    this.#write = write
    this.tensorFolder = join(folder, 'tensors')
  }

  /** Returns a tensor file as stored in the history: by its name alone, so that the data folder can be moved. */
  nameTensors(entry: TensorFile): TensorFile {
    return { ...entry, file: `${entry.bytes}-${entry.sha256}.safetensors` }
  }

  /** Returns a tensor file with its path on this disk. */
  placeTensors(entry: TensorFile): TensorFile {
    return { ...entry, file: join(this.tensorFolder, this.nameTensors(entry).file) }
  }

  put(value: unknown): StoredValue {
    const text = JSON.stringify(value)
    const content = Buffer.from(text)
    if (content.length <= inlineBytes) return { value: text, file: null, bytes: content.length }
    const file = `${content.length}-${createHash('sha256').update(content).digest('hex')}.json`
    if (!existsSync(this.#pathOf(file))) this.#write(this.#pathOf(file), content)
    return { value: null, file, bytes: content.length }
  }

  get({ value, file }: Omit<StoredValue, 'bytes'>): unknown {
    return file === null ? JSON.parse(value as string) : JSON.parse(readChecked(this.#pathOf(file), file))
  }

  /**
   * Removes files that no row refers to, and returns the bytes freed. Keeps recent files, except those in `removed`, whose rows were
   * deleted.
   */
  sweep(db: Database, removed?: ReadonlySet<string>): number {
    const used = new Set(db.prepare(usedFiles).pluck().all())
    let freed = 0
    for (const path of filesUnder(this.#folder)) {
      const file = basename(path)
      if (used.has(file)) continue
      const { size, mtimeMs } = statSync(path)
      if (Date.now() - mtimeMs < sweepAgeMilliseconds && !removed?.has(file)) continue
      rmSync(path)
      freed += size
    }
    return freed
  }

  usedBytes(): number {
    return filesUnder(this.#folder).reduce((sum, path) => sum + statSync(path).size, 0)
  }

  #pathOf(file: string): string {
    return join(this.#folder, file.slice(-69, -67), file)
  }
}

/** Writes a temporary file, flushes and renames it, so that the final name never holds a partial file. */
export function writeDurably(file: string, content: Buffer): void {
  mkdirSync(dirname(file), { recursive: true })
  const unfinished = `${file}.${process.pid}.unfinished`
  try {
    const handle = openSync(unfinished, 'w', 0o600)
    try {
      for (let written = 0; written < content.length; ) written += writeSync(handle, content, written)
      fsyncSync(handle)
    } finally {
      closeSync(handle)
    }
    renameSync(unfinished, file)
  } catch (thrown) {
    rmSync(unfinished, { force: true })
    throw thrown
  }
}

function readChecked(path: string, file: string): string {
  const content = existsSync(path) ? readFileSync(path) : Buffer.alloc(0)
  const hash = createHash('sha256').update(content).digest('hex')
  if (file === `${content.length}-${hash}.json`) return content.toString()
  throw new EspalierError('disk', `The stored value ${file} is missing or damaged. Retry the run from its beginning.`, { file })
}

function filesUnder(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}
