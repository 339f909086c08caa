import { isMainThread } from 'node:worker_threads'

// A killed parent must not leave its child writing beside the next one: the channel between them closes, and so does the child.
if (isMainThread && process.channel) {
  process.on('disconnect', () => process.exit(1))
  process.channel.unref()
}

// What this process starts itself is not ours to end.
const at = process.execArgv.indexOf('--import')
if (at >= 0 && process.execArgv[at + 1] === import.meta.url) process.execArgv.splice(at, 2)
