import { mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { say } from './terminal.mjs'

/** A running owner touches its lock every few seconds; one that did not for so long is gone, or its machine is. */
const staleSeconds = 60

/** How long a program is waited for that a killed set-up has left running. */
const orphanSeconds = 600

/**
 * What a lock file says about its owner, and which programs it has started.
 * @typedef {{ processId: number, host: string, token: string, children: number[] }} Owner
 */

/** @type {{ path: string, owner: Owner } | undefined} */
let held

/**
 * Runs `work` while no other set-up of this user does. Waits for the other one, and takes over what a killed one has left.
 * @template T
 * @param {string} path the lock file
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(path, work) {
  const token = `${process.pid}-${Date.now()}-${Math.random().toString(36).slice(2)}`
  /** @type {Owner} */
  const owner = { processId: process.pid, host: hostname(), token, children: [] }
  mkdirSync(dirname(path), { recursive: true })
  let hasSaid = false
  while (!takeLock(path, owner)) {
    if (isStale(path) && removeStale(path, token)) continue
    if (!hasSaid) say(describeWait(readOwner(path)))
    hasSaid = true
    await pause(500)
  }
  held = { path, owner }
  const beat = setInterval(() => touch(path, token), 5000)
  try {
    return await work()
  } finally {
    clearInterval(beat)
    held = undefined
    if (readOwner(path)?.token === token) rmSync(path, { force: true })
  }
}

/** @param {Owner | undefined} owner */
function describeWait(owner) {
  const left = owner?.host === hostname() && !isRunning(owner.processId) ? owner.children.find(isRunning) : undefined
  if (left !== undefined) return `A set-up that was ended has left a program running (process ${left}); waiting for it …`
  return `Another set-up is running (process ${owner?.processId ?? 'unknown'}); waiting for it …`
}

/**
 * Writes down that a program runs for this set-up: should set-up be killed, the next one waits for the program's end.
 * @param {number | undefined} processId
 * @returns {() => void} to be called when it has ended
 */
export function noteChild(processId) {
  const lock = held
  if (!lock || processId === undefined) return () => undefined
  const write = (/** @type {number[]} */ children) => {
    lock.owner.children = children
    if (readOwner(lock.path)?.token === lock.owner.token) writeFileSync(lock.path, JSON.stringify(lock.owner))
  }
  write([...lock.owner.children, processId])
  return () => write(lock.owner.children.filter((one) => one !== processId))
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
  if (!owner || owner.host !== hostname() || isRunning(owner.processId)) return age > staleSeconds
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
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

/** @param {string} path @param {string} token */
function touch(path, token) {
  const now = new Date()
  if (readOwner(path)?.token === token) utimesSync(path, now, now)
}

/** @param {number} processId */
function isRunning(processId) {
  try {
    process.kill(processId, 0)
    return true
  } catch (thrown) {
    return /** @type {NodeJS.ErrnoException} */ (thrown).code === 'EPERM'
  }
}
