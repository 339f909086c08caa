import { closeSync, openSync } from 'node:fs'

const standardError = 2

/**
 * Runs `load` and hides the startup lines that the library prints to standard error regardless of its log level. If standard error could
 * not be reopened afterwards (because it is a socket, or the system is not Linux), the lines are shown.
 */
export function loadQuietly(load: () => void): void {
  let saved: number
  try {
    saved = openSync(`/proc/self/fd/${standardError}`, 'a')
  } catch {
    load()
    return
  }
  // The system assigns the lowest free descriptor, which is the one just closed.
  closeSync(standardError)
  openSync('/dev/null', 'w')
  try {
    load()
  } finally {
    closeSync(standardError)
    openSync(`/proc/self/fd/${saved}`, 'a')
    closeSync(saved)
  }
}
