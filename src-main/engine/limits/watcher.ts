/**
 * The source of a thread that checks every 40 milliseconds how much processor time and memory a section under limits has used, even while
 * the main thread is busy matching or parsing. Beyond the limits it writes the reason to standard error and kills the process. After two
 * seconds without a section it looks no more until the next message. The source is a string, so that a bundle and plain sources start the
 * thread the same way.
 */
export const watcherSource = `
const { parentPort, workerData: { allowed, state, mark } } = require('node:worker_threads')
const { writeSync } = require('node:fs')
let [what, timer, idle] = ['', undefined, 0]
let [section, startSeconds, startBytes] = [0, 0, 0]
parentPort.on('message', (next) => {
  what = next
  idle = 0
  timer ??= setInterval(look, 40)
  Atomics.store(state, 1, 1)
  look()
})

function look() {
  const now = Atomics.load(state, 0)
  if (now === 0) return rest()
  idle = 0
  const { user, system } = process.cpuUsage()
  const [seconds, bytes] = [(user + system) / 1e6, process.memoryUsage.rss()]
  if (now !== section) [section, startSeconds, startBytes] = [now, seconds, bytes]
  if (seconds > startSeconds + allowed[0]) end(allowed[0].toFixed(0) + ' seconds of processor time')
  if (bytes > startBytes + allowed[1]) end((allowed[1] / 1e6).toFixed(0) + ' MB of memory')
}

function rest() {
  if (++idle < 50 || !timer) return
  Atomics.store(state, 1, 0)
  // A section that opened just before sent no message.
  if (Atomics.load(state, 0) !== 0) return Atomics.store(state, 1, 1)
  clearInterval(timer)
  timer = undefined
}

function end(limit) {
  const shown = what.length > 300 ? what.slice(0, 300) + '…' : what
  const message = shown + ' takes more than ' + limit + ' to read, the limit for a file of this size. It is damaged or malicious. Use another file.'
  writeSync(2, '\\n' + mark + JSON.stringify(message) + '\\n')
  process.kill(process.pid, 'SIGKILL')
}
`
