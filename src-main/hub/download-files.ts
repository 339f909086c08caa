import { existsSync } from 'node:fs'
import { mkdir, statfs } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { withLock } from '#runtime/lock.mjs'
import type { Connection } from './connection.ts'
import { bytesOnDisk, downloadBlob } from './download-blob.ts'
import { describeFile, type FileMetadata, fetchMetadata, fileAddress } from './file-metadata.ts'
import { blobPath, linkSnapshot, repositoryFolder, writeCommit } from './hub-cache.ts'
import { checkPath } from './names.ts'

interface TransferOptions {
  signal: AbortSignal
  report: (progress: Progress) => void
  /** Free bytes at a folder; tests simulate a small disk. */
  measureFree?: (folder: string) => Promise<number>
}

interface Item {
  file: HubFile
  metadata: FileMetadata
  target: string
}

const filesAtOnce = 4

/** Downloads files of one repository and revision into the cache, several at once; returns their paths in request order. */
export async function downloadFiles(
  connection: Connection,
  cacheFolder: string,
  files: HubFile[],
  options: TransferOptions,
): Promise<string[]> {
  for (const file of files) checkPath(file.path, file.repository)
  const items = await mapSome(files, options.signal, (file, signal) => describeItem(connection, cacheFolder, file, signal))
  const present = await Promise.all(items.map((item) => bytesOnDisk(item.target)))
  const total = items.reduce((sum, item) => sum + item.metadata.bytes, 0)
  const needed = items.reduce((sum, item, index) => sum + Math.max(0, item.metadata.bytes - (present[index] ?? 0)), 0)
  const subject = files.length === 1 && files[0] ? describeFile(files[0]) : (files[0]?.repository ?? '')
  checkSpace(await (options.measureFree ?? freeBytes)(cacheFolder), needed, cacheFolder, subject)
  const meter = new ProgressMeter(`downloading ${subject}`, total, options.report)
  for (const [index, item] of items.entries()) meter.begin(item.file.path, Math.min(present[index] ?? 0, item.metadata.bytes))
  return mapSome(items, options.signal, (item, signal) => storeItem(connection, cacheFolder, item, signal, meter))
}

async function describeItem(connection: Connection, cacheFolder: string, file: HubFile, signal: AbortSignal): Promise<Item> {
  const metadata = await fetchMetadata(connection, file, signal)
  return { file, metadata, target: blobPath(repositoryFolder(cacheFolder, file.kind, file.repository), metadata.hash) }
}

async function storeItem(
  connection: Connection,
  cacheFolder: string,
  item: Item,
  signal: AbortSignal,
  meter: ProgressMeter,
): Promise<string> {
  const { file, metadata, target } = item
  const folder = repositoryFolder(cacheFolder, file.kind, file.repository)
  if (!existsSync(target)) {
    const lock = join(cacheFolder, '.locks', basename(folder), `${metadata.hash}.espalier.lock`)
    const url = fileAddress(connection.endpoint, { ...file, revision: metadata.commit })
    const blob = { url, target, hash: metadata.hash, bytes: metadata.bytes, subject: describeFile(file) }
    const fetchBlob = () => downloadBlob(connection, blob, signal, (bytes) => meter.update(file.path, bytes))
    await withLock(lock, async () => existsSync(target) || fetchBlob(), { signal })
  }
  meter.update(file.path, metadata.bytes)
  await writeCommit(folder, file.revision, metadata.commit)
  return linkSnapshot(folder, metadata.commit, file.path, metadata.hash)
}

/** Maps items in order, a few at a time. The first failure stops the rest and is thrown. */
async function mapSome<In, Out>(items: In[], signal: AbortSignal, work: (item: In, signal: AbortSignal) => Promise<Out>): Promise<Out[]> {
  const results: Out[] = []
  const stop = new AbortController()
  const either = AbortSignal.any([signal, stop.signal])
  const queue = items.entries()
  const worker = async () => {
    for (const [index, item] of queue) {
      either.throwIfAborted()
      results[index] = await work(item, either)
    }
  }
  let failure: unknown
  const note = (thrown: unknown) => {
    failure ??= thrown
    stop.abort()
  }
  await Promise.all(Array.from({ length: filesAtOnce }, () => worker().catch(note)))
  if (failure !== undefined) throw failure
  return results
}

/** Free space left for the rest of the system after a download. */
const reserveBytes = 200_000_000

async function freeBytes(folder: string): Promise<number> {
  await mkdir(folder, { recursive: true })
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

/** Throws before anything is written if the disk has too little space. */
function checkSpace(free: number, needed: number, folder: string, what: string): void {
  if (needed === 0 || free >= needed + reserveBytes) return
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`
  const advice = 'Free some space or choose another cache folder (HF_HOME, or in the settings).'
  throw new EspalierError('disk', `${what} needs ${gigabytes(needed)} more at ${folder}, where ${gigabytes(free)} are free. ${advice}`, {
    needed,
    free,
  })
}

const windowSeconds = 5
const reportSeconds = 0.2

/** Progress over several files: `update` takes a file's bytes so far. The rate covers the last few seconds. */
export class ProgressMeter {
  readonly #phase: string
  readonly #total: number
  readonly #report: (progress: Progress) => void
  readonly #now: () => number
  readonly #files = new Map<string, number>()
  #samples: { seconds: number; received: number }[] = []
  #done = 0
  #received = 0
  #reported = Number.NEGATIVE_INFINITY

  constructor(phase: string, total: number, report: (progress: Progress) => void, now = () => performance.now() / 1000) {
    this.#phase = phase
    this.#total = total
    this.#report = report
    this.#now = now
  }

  /** Starts a file. Bytes that were on disk before the transfer count as done, but not towards the speed. */
  begin(file: string, bytes: number): void {
    this.#done += bytes - (this.#files.get(file) ?? 0)
    this.#files.set(file, bytes)
    this.#tell(true)
  }

  update(file: string, bytes: number): void {
    const change = bytes - (this.#files.get(file) ?? 0)
    this.#files.set(file, bytes)
    this.#done += change
    this.#received += Math.max(0, change)
    this.#tell(this.#done === this.#total)
  }

  #tell(always: boolean): void {
    const seconds = this.#now()
    if (!always && seconds - this.#reported < reportSeconds) return
    this.#reported = seconds
    this.#samples.push({ seconds, received: this.#received })
    this.#samples = this.#samples.filter((sample) => seconds - sample.seconds <= windowSeconds)
    this.#report({ phase: this.#phase, done: this.#done, total: this.#total, unit: 'bytes', ...this.#speed() })
  }

  #speed(): Pick<Progress, 'perSecond' | 'secondsLeft'> {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (!first || !last || last.seconds <= first.seconds) return {}
    const perSecond = (last.received - first.received) / (last.seconds - first.seconds)
    return perSecond > 0 ? { perSecond, secondsLeft: (this.#total - this.#done) / perSecond } : { perSecond }
  }
}
