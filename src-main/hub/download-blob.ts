import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdir, open, rename, rm, stat, truncate } from 'node:fs/promises'
import { dirname } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { asPassingFailure, type Connection, PassingFailure, pauseAfter, requestHops } from './connection.ts'

interface BlobRequest {
  url: string
  /** Path of the finished file. The part downloaded so far is beside it with `.incomplete` appended. */
  target: string
  hash: string
  bytes: number
  subject: string
}

/**
 * Downloads one file: resumes an earlier attempt, retries when cut, and renames the file only if its hash matches. `report` gets the bytes
 * on disk so far.
 */
export async function downloadBlob(
  connection: Connection,
  blob: BlobRequest,
  signal: AbortSignal,
  report: (bytes: number) => void,
): Promise<void> {
  const partial = `${blob.target}.incomplete`
  await mkdir(dirname(partial), { recursive: true })
  let furthest = await startingSize(partial, blob.bytes)
  for (let failures = 0, spoiled = 0; ; ) {
    try {
      await fillFile(connection, blob, partial, signal, report)
      if (await hasHash(partial, blob.hash, blob.bytes, signal)) break
      await rm(partial)
      report(0)
      spoiled += 1
      if (spoiled === 2) throw wrongHash(blob)
    } catch (thrown) {
      if (!(thrown instanceof PassingFailure)) throw asDiskError(thrown, blob)
      const size = await sizeOf(partial)
      failures = size > furthest ? 1 : failures + 1
      furthest = Math.max(furthest, size)
      await pauseAfter(connection, thrown, failures, signal)
    }
  }
  await rename(partial, blob.target)
}

/** Returns how many bytes of a file are on disk, whether it is complete or partial. */
export async function bytesOnDisk(target: string): Promise<number> {
  return existsSync(target) ? sizeOf(target) : sizeOf(`${target}.incomplete`)
}

async function startingSize(partial: string, bytes: number): Promise<number> {
  if ((await sizeOf(partial)) > bytes) await rm(partial)
  return sizeOf(partial)
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0
}

async function fillFile(connection: Connection, blob: BlobRequest, partial: string, signal: AbortSignal, report: (bytes: number) => void) {
  const from = await sizeOf(partial)
  report(from)
  if (from === blob.bytes && existsSync(partial)) return
  const patience = startPatience(connection.idleSeconds)
  try {
    const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {}
    const hops = await requestHops(connection, blob.url, { headers, signal, patience: patience.signal, subject: blob.subject })
    const response = hops.at(-1) as Response
    const start = await findStart(response, from, blob, partial)
    await writeBody(response, start, blob, partial, (bytes) => {
      patience.renew()
      report(bytes)
    })
  } catch (thrown) {
    throw asPassingFailure(thrown, signal, `The transfer of ${blob.subject} was cut`)
  } finally {
    patience.end()
  }
}

/** Returns the offset at which this response starts. If the server ignores the requested offset, the download starts over. */
async function findStart(response: Response, from: number, blob: BlobRequest, partial: string): Promise<number> {
  if (from === 0 || response.status === 200) return 0
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '')
  if (response.status === 206 && Number(range?.[1]) === from && (range?.[2] === '*' || Number(range?.[2]) === blob.bytes)) return from
  await response.body?.cancel()
  await truncate(partial, 0)
  throw new PassingFailure(new EspalierError('unreachable', `The server cannot resume ${blob.subject} where it was cut.`))
}

async function writeBody(
  response: Response,
  start: number,
  blob: BlobRequest,
  partial: string,
  report: (bytes: number) => void,
): Promise<void> {
  const handle = await open(partial, start === 0 ? 'w' : 'a')
  let size = start
  try {
    for await (const chunk of response.body ?? []) {
      size += chunk.byteLength
      if (size > blob.bytes) break
      await handle.write(chunk)
      report(size)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  if (size === blob.bytes) return
  if (size > blob.bytes) await truncate(partial, 0)
  throw new PassingFailure(
    new EspalierError('unreachable', `${blob.subject} should have ${blob.bytes} bytes, but the server sent ${size}. Try again later.`),
  )
}

/** Returns a signal that aborts unless it is renewed every `seconds`. */
function startPatience(seconds: number): { signal: AbortSignal; renew(): void; end(): void } {
  const controller = new AbortController()
  const giveUp = () => controller.abort(new Error(`no data arrived for ${seconds} seconds`))
  const timer = setTimeout(giveUp, seconds * 1000)
  return { signal: controller.signal, renew: () => timer.refresh(), end: () => clearTimeout(timer) }
}

function wrongHash(blob: BlobRequest): EspalierError {
  return new EspalierError(
    'invalid',
    `${blob.subject} arrived twice with a wrong hash (expected ${blob.hash}); it was deleted. Try again later or on another network.`,
  )
}

function asDiskError(thrown: unknown, blob: BlobRequest): unknown {
  const code = (thrown as NodeJS.ErrnoException | undefined)?.code
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return thrown
  return new EspalierError(
    'disk',
    `The disk is full: ${blob.subject} needs ${blob.bytes} bytes at ${dirname(blob.target)}. Free some space and start again; the download will resume.`,
  )
}

/** Whether a file matches the hub's hash: sha256 of the bytes (64 digits) or git's sha1 of the blob (40 digits). */
async function hasHash(path: string, hash: string, bytes: number, signal: AbortSignal): Promise<boolean> {
  const hasher = createHash(hash.length === 64 ? 'sha256' : 'sha1')
  if (hash.length === 40) hasher.update(`blob ${bytes}\0`)
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal })) hasher.update(chunk)
  return hasher.digest('hex') === hash
}
