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
import { z } from 'zod'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { UnknownFiles } from '#contract/machine/history.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { isBeingWritten, removeUnfinished, unfinishedName, writeWhole } from '#runtime/write-whole.ts'
import { type Database, immediately, ValueFault } from './database.ts'

/** JSON up to this size is stored in the history; larger values get their own file. */
export const inlineBytes = 256 * 1024

/** A value in the row itself, or in the file `<bytes>-<sha256>.json`, whose name verifies its content. */
export interface StoredValue {
  value: string | null
  file: string | null
  bytes: number
}

/** A file that no row names may belong to a row that another process is about to write, unless it is older than this. */
const unknownAgeMilliseconds = 600_000

/** Names the histories that store values in the folder, by their ids. */
const idsFile = 'histories.json'

/** Tests replace this with a writer that fails like a full disk. */
export type WriteFile = (file: string, content: Buffer) => void

/** The files that rows refer to. */
const usedFiles = `
  SELECT file FROM steps WHERE file IS NOT NULL
  UNION SELECT plan_file FROM run_documents WHERE plan_file IS NOT NULL
  UNION SELECT scores_file FROM run_documents WHERE scores_file IS NOT NULL
  UNION SELECT questions_file FROM run_documents WHERE questions_file IS NOT NULL
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
    if (!existsSync(this.#pathOf(file))) this.#writeOrExplain(this.#pathOf(file), content)
    return { value: null, file, bytes: content.length }
  }

  #writeOrExplain(path: string, content: Buffer): void {
    try {
      this.#write(path, content)
    } catch (thrown) {
      throw new ValueFault((thrown as NodeJS.ErrnoException).code ?? 'EIO', toErrorMessage(thrown).message)
    }
  }

  get({ value, file }: Omit<StoredValue, 'bytes'>): unknown {
    return file === null ? JSON.parse(value as string) : JSON.parse(readChecked(this.#pathOf(file), file))
  }

  /**
   * Deletes the files that rows of this history named and name no longer, and returns the bytes freed. Files that this history does not know
   * are kept: they may belong to another history, or to a later state of this one.
   */
  sweep(db: Database): number {
    return immediately(db, () => {
      const released = db.prepare(`SELECT file FROM released_files WHERE file NOT IN (${usedFiles})`).pluck().all() as string[]
      const paths = released.flatMap((file) => [this.#pathOf(file), join(this.tensorFolder, file)]).filter((path) => existsSync(path))
      const freed = paths.reduce((sum, path) => sum + statSync(path).size, 0)
      for (const path of paths) rmSync(path)
      db.prepare('DELETE FROM released_files').run()
      return freed
    })
  }

  /** The files that this history does not know, except those that may be in the making. */
  unknown(db: Database): UnknownFiles {
    const paths = this.#unknownPaths(db)
    return { files: paths.length, bytes: paths.reduce((sum, path) => sum + statSync(path).size, 0), others: this.others(db) }
  }

  /** Deletes the files that this history does not know. Only the user may decide that. */
  removeUnknown(db: Database): void {
    for (const path of this.#unknownPaths(db)) rmSync(path, { force: true })
  }

  #unknownPaths(db: Database): string[] {
    const known = new Set(db.prepare(`${usedFiles} UNION SELECT file FROM released_files`).pluck().all())
    return filesUnder(this.#folder).filter((path) => {
      if (known.has(basename(path)) || path === join(this.#folder, idsFile)) return false
      const { mtimeMs } = statSync(path)
      return !isBeingWritten(path) && Date.now() - mtimeMs > unknownAgeMilliseconds
    })
  }

  /** All stored values, of this history and others. */
  stored(): { files: number; bytes: number } {
    const paths = filesUnder(this.#folder).filter((path) => path !== join(this.#folder, idsFile) && !path.endsWith('.unfinished'))
    return { files: paths.length, bytes: paths.reduce((sum, path) => sum + statSync(path).size, 0) }
  }

  /** Removes what killed processes left half written. */
  removeUnfinished(): void {
    removeUnfinished(this.#folder)
  }

  /** Adds the history's id to the folder, so that an empty history beside these values is noticed. */
  claim(db: Database): void {
    const ids = this.#ids
    if (!ids.includes(idOf(db))) writeWhole(join(this.#folder, idsFile), JSON.stringify([...ids, idOf(db)]))
  }

  /** How many other histories have stored values here. */
  others(db: Database): number {
    return this.#ids.filter((id) => id !== idOf(db)).length
  }

  get #ids(): string[] {
    const file = join(this.#folder, idsFile)
    return existsSync(file) ? idList.parse(JSON.parse(readFileSync(file, 'utf8'))) : []
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
  const unfinished = unfinishedName(file)
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

const idList = z.array(z.string()).catch([])

const idOf = (db: Database): string => db.prepare('SELECT id FROM identity').pluck().get() as string

function filesUnder(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}
