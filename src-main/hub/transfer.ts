import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { withLock } from '#runtime/lock.mjs'
import { blobPath, linkSnapshot, repositoryFolder, writeCommit } from './cache.ts'
import type { Connection } from './connection.ts'
import { checkSpace, freeBytes } from './disk-space.ts'
import { bytesOnDisk, downloadBlob } from './download.ts'
import { describeFile, type FileMetadata, fetchMetadata, fileAddress } from './metadata.ts'
import { checkPath } from './names.ts'
import { ProgressMeter } from './progress-meter.ts'

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
export async function transferFiles(
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
