import { stderr } from 'node:process'

/**
 * Prints to stderr, because stdout is for the results of the command that follows setup.
 * @param {string} text
 */
export function say(text) {
  stderr.write(`${text}\n`)
}

/**
 * @param {number} bytes
 * @returns {string} for instance `274 MB`
 */
export function formatBytes(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`
  if (bytes >= 1e6) return `${Math.round(bytes / 1e6)} MB`
  return `${Math.ceil(bytes / 1e3)} kB`
}

/**
 * Runs one step of setup and reports it: an updating line in a terminal, a line every 15 seconds in a log.
 * @template T
 * @param {string} title
 * @param {(report: (note: string) => void) => Promise<T>} work `report` sets the note after the title
 * @returns {Promise<T>}
 */
export async function showStep(title, work) {
  const began = performance.now()
  let note = ''
  const line = (/** @type {string} */ end) => `${title}${note && `: ${note}`}${end} (${((performance.now() - began) / 1000).toFixed(1)} s)`
  if (!stderr.isTTY) say(`${title} …`)
  const timer = setInterval(() => (stderr.isTTY ? stderr.write(`\r\x1b[K${line(' …')}`) : say(line(' …'))), stderr.isTTY ? 250 : 15_000)
  try {
    const result = await work((text) => {
      note = text
    })
    finishLine(line(''))
    return result
  } catch (thrown) {
    finishLine(line(' – not done'))
    throw thrown
  } finally {
    clearInterval(timer)
  }
}

/** @param {string} text */
function finishLine(text) {
  say(stderr.isTTY ? `\r\x1b[K${text}` : text)
}
