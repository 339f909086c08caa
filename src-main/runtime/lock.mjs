import { mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** A running owner touches its lock every few seconds. After this long without a touch, the owner or its machine is gone. */
const staleSeconds = 60
/** A lock without its owner's record is free after this long: its process was killed right after creating the file. */
const unsignedSeconds = 3

/** How long to wait for programs that a killed owner left running. */
const orphanSeconds = 600

/**
 * A lock file's owner, and the programs it has started.
 * @typedef {{ processId: number, host: string, token: string, children: number[] }} Owner
 */

/**
 * Operations for the owner of a lock.
 * @typedef {{ setChildren: (children: number[]) => void }} HeldLock
 */

/** Locks that this process holds or waits for. Its process id in any other lock belongs to an earlier process. */
const ownTokens = new Set()

/**
 * Runs `work` while no other holder of the same lock, in this process or another, runs. Waits for the current owner, and takes the lock
 * over from a killed one.
 * @template T
 * @param {string} path the lock file
 * @param {(lock: HeldLock) => Promise<T>} work
 * @param {{ signal?: AbortSignal, onWait?: (owner: Owner | undefined) => void }} [settings] `onWait` is called once
 * @returns {Promise<T>}
 */
export async function withLock(path, work, { signal, onWait } = {}) {
  const token = `${process.pid}-${Date.now()}-${Math.random().toString(36).slice(2)}`
  /** @type {Owner} */
  const owner = { processId: process.pid, host: hostname(), token, children: [] }
  ownTokens.add(token)
  try {
    await waitFor(path, owner, signal, onWait)
    const beat = setInterval(() => touch(path, token), 5000)
    const setChildren = (/** @type {number[]} */ children) => {
      owner.children = children
      if (readOwner(path)?.token === token) writeFileSync(path, JSON.stringify(owner))
    }
    try {
      return await work({ setChildren })
    } finally {
      clearInterval(beat)
      if (readOwner(path)?.token === token) rmSync(path, { force: true })
    }
  } finally {
    ownTokens.delete(token)
  }
}

/**
 * @param {string} path
 * @param {Owner} owner
 * @param {AbortSignal | undefined} signal
 * @param {((owner: Owner | undefined) => void) | undefined} onWait
 */
async function waitFor(path, owner, signal, onWait) {
  mkdirSync(dirname(path), { recursive: true })
  signal?.throwIfAborted()
  let hasTold = false
  while (!takeLock(path, owner)) {
    if (isStale(path) && removeStale(path, owner.token)) continue
    if (!hasTold) onWait?.(readOwner(path))
    hasTold = true
    await pause(500, undefined, signal ? { signal } : {})
  }
}

/**
 * @param {string} path
 * @param {Owner} owner
 * @returns {boolean}
 */
function takeLock(path, owner) {
  try {
    writeFileSync(path, JSON.stringify(owner), { flag: 'wx' })
    return true
  } catch (thrown) {
    if (/** @type {NodeJS.ErrnoException} */ (thrown).code === 'EEXIST') return false
    throw thrown
  }
}

/**
 * Whether a lock's owner is gone. That is so if it has not touched the file for a minute, or if its process on this machine has ended. The
 * programs that an ended process has started are waited for, but for 10 minutes at most.
 * @param {string} path
 * @returns {boolean}
 */
export function isStale(path) {
  const age = (Date.now() - modifiedAt(path)) / 1000
  const owner = readOwner(path)
  // If a clock was set back, the file's time is in the future; a living owner would correct it within seconds.
  if (!owner) return Math.abs(age) > unsignedSeconds
  if (owner.host !== hostname()) return Math.abs(age) > staleSeconds
  if (isOwnerRunning(owner)) return age > staleSeconds
  return age > orphanSeconds || !owner.children.some(isRunning)
}

/** @param {string} path */
function modifiedAt(path) {
  try {
    return statSync(path).mtimeMs
  } catch {
    return Date.now()
  }
}

/**
 * Renames the lock before removing it, so that only one of two processes that consider it stale succeeds. The renamed file is checked
 * again, because it may be a new lock that was taken meanwhile.
 * @param {string} path
 * @param {string} token
 * @returns {boolean} whether the lock may be tried again at once
 */
function removeStale(path, token) {
  const aside = `${path}.${token}`
  try {
    renameSync(path, aside)
  } catch {
    return true
  }
  if (!isStale(aside)) {
    renameSync(aside, path)
    return false
  }
  rmSync(aside, { force: true })
  return true
}

/**
 * @param {string} path
 * @returns {Owner | undefined}
 */
function readOwner(path) {
  try {
    const owner = JSON.parse(readFileSync(path, 'utf8'))
    return Array.isArray(owner?.children) ? owner : undefined
  } catch {
    return undefined
  }
}

/** @param {string} path @param {string} token */
function touch(path, token) {
  const now = new Date()
  if (readOwner(path)?.token === token) utimesSync(path, now, now)
}

/** @param {Owner} owner */
export function isOwnerRunning({ processId, token }) {
  return processId === process.pid ? ownTokens.has(token) : isRunning(processId)
}

/** @param {number} processId */
export function isRunning(processId) {
  try {
    process.kill(processId, 0)
    return true
  } catch (thrown) {
    return /** @type {NodeJS.ErrnoException} */ (thrown).code === 'EPERM'
  }
}
