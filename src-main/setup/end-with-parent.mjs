import { isMainThread } from 'node:worker_threads'

// A killed parent must not leave a child that writes beside its successor. When the channel between them closes, the child exits.
if (isMainThread && process.channel) {
  process.on('disconnect', () => process.exit(1))
  process.channel.unref()
}

// Children of this process must not inherit this behaviour.
const at = process.execArgv.indexOf('--import')
if (at >= 0 && process.execArgv[at + 1] === import.meta.url) process.execArgv.splice(at, 2)
