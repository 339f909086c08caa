import { closeSync, openSync } from 'node:fs'

const standardError = 2

/**
 * Runs a load during which the library's own start-up lines do not reach standard error: it prints them before any setting of its
 * log level is heeded. Where the stream cannot be reopened afterwards (a socket, another system than Linux), they are shown.
 */
export function loadQuietly(load: () => void): void {
  let saved: number
  try {
    saved = openSync(`/proc/self/fd/${standardError}`, 'a')
  } catch {
    load()
    return
  }
  // The lowest free number is taken, which is the one that was just closed.
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
