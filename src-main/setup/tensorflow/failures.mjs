import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runtimesFolder } from '../../runtime/places.mjs'

/** A failure is not retried at every start, but only after this many hours. */
const forgetAfterHours = 20

const path = () => join(runtimesFolder(), 'failures.json')

/**
 * @param {string} what
 * @returns {string | undefined} reason of the recent failure
 */
export function recentFailure(what) {
  const failure = readFailures()[what]
  if (!failure || Date.now() - Date.parse(failure.at) > forgetAfterHours * 3_600_000) return undefined
  return failure.reason
}

/**
 * @param {string} what
 * @param {string} reason
 */
export function rememberFailure(what, reason) {
  mkdirSync(runtimesFolder(), { recursive: true })
  writeFileSync(path(), `${JSON.stringify({ ...readFailures(), [what]: { at: new Date().toISOString(), reason } }, null, 2)}\n`)
}

/** @returns {Record<string, { at: string, reason: string }>} */
function readFailures() {
  try {
    return JSON.parse(readFileSync(path(), 'utf8'))
  } catch {
    return {}
  }
}
