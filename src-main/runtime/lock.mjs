import { mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** A running owner touches its lock every few seconds; one that did not for so long is gone, or its machine is. */
const staleSeconds = 60
/** A process that was killed right after it made its lock did not say who it is. */
const unsignedSeconds = 3

/** How long programs are waited for that a killed owner has left running. */
const orphanSeconds = 600

/**
 * What a lock file says about its owner, and which programs it has started.
 * @typedef {{ processId: number, host: string, token: string, children: number[] }} Owner
 */

/**
 * What the owner of a lock may do with it.
 * @typedef {{ setChildren: (children: number[]) => void }} HeldLock
 */

/** What this process holds or waits for: its own number in another lock is that of a process before it. */
const ownTokens = new Set()

/**
 * Runs `work` alone among everybody who takes the same lock, in this process and others. Waits for the owner, and takes over what a
 * killed one has left.
 * @template T
 * @param {string} path the lock file
 * @param {(lock: HeldLock) => Promise<T>} work
 * @param {{ signal?: AbortSignal, onWait?: (owner: Owner | undefined) => void }} [settings] `onWait` is told once
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
 * Whether the owner of a lock is gone: its process on this machine and what it started have ended, or it has not touched the file for a minute.
 * @param {string} path
 * @returns {boolean}
 */
export function isStale(path) {
  const age = (Date.now() - modifiedAt(path)) / 1000
  const owner = readOwner(path)
  // A clock that was set back leaves the file in the future: its owner would touch it again within seconds.
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
 * Renames before it removes: of two that judge the same lock stale only one succeeds, and it looks whether it got a new one by mistake.
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
