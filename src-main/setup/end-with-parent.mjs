import { isMainThread } from 'node:worker_threads'

// A killed parent must not leave a child that writes at the same time as the next one. So the child exits when their channel closes.
if (isMainThread && process.channel) {
  process.on('disconnect', () => process.exit(1))
  process.channel.unref()
}

// Children of this process must not inherit this behaviour.
const index = process.execArgv.indexOf('--import')
if (index >= 0 && process.execArgv[index + 1] === import.meta.url) process.execArgv.splice(index, 2)
