import { hostname } from 'node:os'
import { join } from 'node:path'
import { isOwnerRunning, isRunning, withLock } from '../runtime/lock.mjs'
import { cacheFolder } from '../runtime/places.mjs'
import { say } from './terminal.mjs'

/** @type {{ lock: import('../runtime/lock.mjs').HeldLock, children: Set<number> } | undefined} */
let held

/**
 * Runs `work` while no other setup of this user runs. Waits for another one, and takes over from a killed one.
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export function withSetupLock(work) {
  const run = (/** @type {import('../runtime/lock.mjs').HeldLock} */ lock) => {
    held = { lock, children: new Set() }
    return work().finally(() => {
      held = undefined
    })
  }
  return withLock(join(cacheFolder(), 'setup.lock'), run, { onWait: (owner) => say(describeWait(owner)) })
}

/** @param {import('../runtime/lock.mjs').Owner | undefined} owner */
function describeWait(owner) {
  const orphan = owner?.host === hostname() && !isOwnerRunning(owner) ? owner.children.find(isRunning) : undefined
  if (orphan !== undefined) return `A killed setup left a program running (process ${orphan}); waiting for it …`
  return `Another setup is running (process ${owner?.processId ?? 'unknown'}); waiting for it …`
}

/**
 * Records a program started by this setup. If setup is killed, the next one waits for that program to end.
 * @param {number | undefined} processId
 * @returns {() => void} to be called when it has ended
 */
export function noteChild(processId) {
  const current = held
  if (!current || processId === undefined) return () => undefined
  current.children.add(processId)
  current.lock.setChildren([...current.children])
  return () => {
    current.children.delete(processId)
    current.lock.setChildren([...current.children])
  }
}
