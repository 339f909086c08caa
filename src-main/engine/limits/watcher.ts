/**
 * The source of a thread that checks every 40 milliseconds how much processor time and memory a section under limits has used, even while
 * the main thread is busy matching or parsing. Beyond the limits it writes the reason to standard error and kills the process. The source
 * is a string, so that a bundle and plain sources start the thread the same way.
 */
export const watcherSource = `
const { parentPort, workerData: { shared, mark } } = require('node:worker_threads')
const { writeSync } = require('node:fs')
let timer
parentPort.on('message', (what) => {
  clearInterval(timer)
  if (what !== null) timer = setInterval(() => look(what), 40)
})

function look(what) {
  const [startSeconds, seconds, startBytes, bytes] = shared
  if (seconds === 0) return
  const { user, system } = process.cpuUsage()
  if ((user + system) / 1e6 > startSeconds + seconds) end(what, seconds.toFixed(0) + ' seconds of processor time')
  if (process.memoryUsage.rss() > startBytes + bytes) end(what, (bytes / 1e6).toFixed(0) + ' MB of memory')
}

function end(what, limit) {
  const shown = what.length > 300 ? what.slice(0, 300) + '…' : what
  const message = shown + ' takes more than ' + limit + ' to read, the limit for a file of this size. It is damaged or malicious. Use another file.'
  writeSync(2, '\\n' + mark + JSON.stringify(message) + '\\n')
  process.kill(process.pid, 'SIGKILL')
}
`
