import { closeSync, fsyncSync, mkdirSync, openSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { megabytes, type Obstacle } from '#contract/machine/history.ts'
import { unfinishedName } from '#runtime/write-whole.ts'
import { busyMilliseconds, type Database, faultOf, immediately, ValueFault } from './database.ts'

/** How often the history is tried again. */
const usualRetryMilliseconds = 500
/** A disk with less free space than this counts as full. */
export const leastRoomBytes = 2_000_000
/** As much is written to prove that a disk has space again: free space that the system reports may be beyond a quota. */
const proofBytes = 256 * 1024

interface Waiting {
  work: () => unknown
  resolve(value: unknown): void
  reject(thrown: unknown): void
}

/**
 * The one policy for every change of the history. While it is locked, its disk full or failing, there is an obstacle: work that can wait is
 * kept in order and done when the obstacle is gone, and the queue, screens and commands say what is waited for.
 */
export class Writes {
  readonly #db: Database
  readonly #file: string
  readonly #folder: string
  readonly #retryMilliseconds: number
  readonly #lanes = new Map<string, Waiting[]>()
  readonly #listeners = new Set<() => void>()
  /** Ends the waits of `clear`. */
  readonly #clearing = new Set<() => void>()
  #obstacle: Obstacle | null = null
  #timer: NodeJS.Timeout | undefined

  constructor(db: Database, file: string, retryMilliseconds = usualRetryMilliseconds) {
    this.#db = db
    this.#file = file
    this.#folder = dirname(file)
    this.#retryMilliseconds = retryMilliseconds
    this.#waitFor(busyMilliseconds)
  }

  /** Why nothing can be written at the moment; null if nothing is in the way. */
  get obstacle(): Obstacle | null {
    return this.#obstacle
  }

  /** Calls the listener when an obstacle appears, changes or is gone. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /**
   * Does `work` at once if possible, and otherwise as soon as it is. Work of one lane is done in order. Rejects only with errors that waiting
   * does not help. `work` may be called several times: what a failed call has written must be undone, as in a transaction.
   */
  write<T>(lane: string, work: () => T): Promise<T> {
    if (this.#obstacle === null) this.checkPlace()
    return new Promise<T>((resolve, reject) => {
      const waiting: Waiting = { work, resolve: resolve as (value: unknown) => void, reject }
      const before = this.#lanes.get(lane)
      if (before) before.push(waiting)
      else if (this.#obstacle) this.#lanes.set(lane, [waiting])
      else if (!this.#perform(waiting)) this.#lanes.set(lane, [waiting])
    })
  }

  /** Like `write`, for work whose result is not needed. */
  later(lane: string, work: () => void): void {
    this.write(lane, work).catch((thrown: unknown) => console.error(toErrorMessage(thrown).message))
  }

  /** Does work that may be skipped, because it is done again soon. Returns whether it was done. */
  attempt(work: () => void): boolean {
    return this.#obstacle === null && this.guard(work)
  }

  /** Does work that reads. Returns false instead of throwing if the history cannot be used. */
  guard(work: () => void): boolean {
    try {
      work()
      return true
    } catch (thrown) {
      if (!this.report(thrown)) throw thrown
      return false
    }
  }

  /** Records an error of the history as the obstacle. Returns false for other errors, and after closing. */
  report(thrown: unknown): boolean {
    const kind = faultAt(this.#folder, thrown)
    if (kind === undefined) return false
    if (this.#db.open) this.#become({ kind, reason: toErrorMessage(thrown).message, neededBytes: leastRoomBytes })
    return true
  }

  /**
   * Notices that the history is no longer at its place. SQLite would write on into a file that cannot be found again, so nothing is
   * written until it is back.
   */
  checkPlace(): void {
    const reason = whyAway(this.#file)
    if (reason === undefined || !this.#db.open) return
    this.#db.pragma('query_only = ON')
    this.#become({ kind: 'failing', reason, neededBytes: leastRoomBytes })
  }

  /** Whether the disk has space for this many bytes. If not, that is the obstacle until it has. */
  hasRoom(bytes: number): boolean {
    const needed = Math.max(leastRoomBytes, bytes)
    if (freeBytes(this.#folder) >= needed) return true
    this.#become({ kind: 'full', reason: '', neededBytes: needed })
    return false
  }

  /**
   * Resolves when nothing is in the way.
   * @param patience how long to wait; then it rejects with the obstacle
   */
  async clear(patience: number, signal?: AbortSignal): Promise<void> {
    if (this.#obstacle === null || !this.#db.open) return
    signal?.throwIfAborted()
    if (patience <= 0) throw new EspalierError('disk', this.#obstacle.message)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const leave = () => reject(signal?.reason)
    const giveUp = () => reject(new EspalierError('disk', this.#obstacle?.message ?? ''))
    const timer = Number.isFinite(patience) ? setTimeout(giveUp, patience) : undefined
    signal?.addEventListener('abort', leave)
    this.#clearing.add(resolve)
    try {
      await promise
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', leave)
      this.#clearing.delete(resolve)
    }
  }

  close(): void {
    clearInterval(this.#timer)
    for (const lane of this.#lanes.values())
      for (const { reject } of lane) reject(new EspalierError('cancelled', 'The history was closed before this could be written.'))
    this.#lanes.clear()
    for (const resolve of this.#clearing) resolve()
  }

  /** Returns false if the work must wait. */
  #perform({ work, resolve, reject }: Waiting): boolean {
    try {
      resolve(work())
    } catch (thrown) {
      if (this.#db.open && this.report(thrown)) return false
      reject(thrown)
    }
    return true
  }

  #retry(): void {
    if (!this.#db.open || !this.guard(() => this.#prove())) return
    let isLeft = false
    for (const [lane, waiting] of this.#lanes) {
      while (waiting.length > 0 && this.#perform(waiting[0] as Waiting)) waiting.shift()
      if (waiting.length === 0) this.#lanes.delete(lane)
      else isLeft = true
    }
    if (isLeft) return
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#obstacle = null
    this.#waitFor(busyMilliseconds)
    this.#tell()
    // A listener may have met the next obstacle.
    if (this.obstacle === null) for (const resolve of this.#clearing) resolve()
  }

  /** Writes to the disk and to the history. Throws if either fails. */
  #prove(): void {
    const { kind, neededBytes } = this.#obstacle as Obstacle
    const away = whyAway(this.#file)
    if (away !== undefined) throw new ValueFault('EAWAY', away)
    this.#db.pragma('query_only = OFF')
    if (kind !== 'locked') {
      if (freeBytes(this.#folder) < (neededBytes ?? leastRoomBytes)) throw new ValueFault('ENOSPC', 'There is too little space.')
      proveSpace(join(this.#folder, 'proof'))
    }
    immediately(this.#db, () => {
      this.#db.prepare("INSERT OR REPLACE INTO settings(name, value) VALUES ('proved', ?)").run(String(Date.now()))
    })
  }

  #become({ kind, reason, neededBytes }: { kind: Obstacle['kind']; reason: string; neededBytes: number }): void {
    const before = this.#obstacle
    const since = before?.since ?? Date.now()
    const full =
      kind === 'full' ? { neededBytes: Math.max(neededBytes, before?.neededBytes ?? 0), freeBytes: freeBytes(this.#folder) } : noSizes
    const free = full.freeBytes === Number.POSITIVE_INFINITY ? null : full.freeBytes
    const sizes = { ...full, freeBytes: free }
    this.#obstacle = { kind, since, ...sizes, message: messageOf(kind, this.#file, reason, sizes) }
    this.#waitFor(0)
    this.#timer ??= setInterval(() => this.#retry(), this.#retryMilliseconds)
    if (before?.message !== this.#obstacle.message) this.#tell()
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }

  /** While another process holds the lock, statements fail at once instead of blocking this process. */
  #waitFor(milliseconds: number): void {
    this.#db.pragma(`busy_timeout = ${milliseconds}`)
  }
}

const noSizes = { neededBytes: null, freeBytes: null }

function messageOf(
  kind: Obstacle['kind'],
  file: string,
  reason: string,
  { neededBytes, freeBytes }: Pick<Obstacle, 'neededBytes' | 'freeBytes'>,
): string {
  if (kind === 'locked')
    return `The history ${file} is locked: another program is writing to it. Espalier continues by itself when that program has finished.`
  if (kind === 'failing') return `The history ${file} cannot be written: ${reason} Espalier continues by itself when it can be.`
  const free = freeBytes === null ? '' : ` ${megabytes(freeBytes)} are free,`
  return `The disk of ${dirname(file)} is full:${free} ${megabytes(neededBytes ?? leastRoomBytes)} are needed. Free some space; Espalier then continues by itself.`
}

/** Why the history cannot be found at its place, such as a network disk that is gone; undefined if it can. */
function whyAway(file: string): string | undefined {
  try {
    if (statSync(file, { throwIfNoEntry: false })) return undefined
    return 'It is no longer there. Its folder was moved or deleted, or its disk was disconnected. Put it back.'
  } catch (thrown) {
    return toErrorMessage(thrown).message
  }
}

/** Like `faultOf`. On a full disk SQLite reports an I/O error where it cannot make the index of its log. */
export function faultAt(folder: string, thrown: unknown): ReturnType<typeof faultOf> {
  const fault = faultOf(thrown)
  return fault === 'failing' && freeBytes(folder) < leastRoomBytes ? 'full' : fault
}

function freeBytes(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder)
    return bavail * bsize
  } catch {
    // A disk that does not say how much is free is tried.
    return Number.POSITIVE_INFINITY
  }
}

/** Writes some bytes to a file and deletes it again. */
function proveSpace(file: string): void {
  const proof = unfinishedName(file)
  mkdirSync(dirname(proof), { recursive: true })
  try {
    const handle = openSync(proof, 'wx', 0o600)
    try {
      writeSync(handle, Buffer.alloc(proofBytes))
      fsyncSync(handle)
    } finally {
      closeSync(handle)
    }
  } catch (thrown) {
    throw new ValueFault((thrown as NodeJS.ErrnoException).code ?? 'EIO', toErrorMessage(thrown).message)
  } finally {
    rmSync(proof, { force: true })
  }
}
