import { closeSync, openSync } from 'node:fs'

const standardError = 2

/**
 * Runs a load while hiding the library's own startup lines, which it prints to standard error whatever its log level. If the stream cannot
 * be reopened afterwards (a socket, or a system other than Linux), they are shown.
 */
export function loadQuietly(load: () => void): void {
  let saved: number
  try {
    saved = openSync(`/proc/self/fd/${standardError}`, 'a')
  } catch {
    load()
    return
  }
  // The lowest free number is used, which is the one just closed.
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
