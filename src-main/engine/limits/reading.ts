import { Worker } from 'node:worker_threads'
import { limitMark } from '#contract/machine/compute-messages.ts'
import { watcherSource } from './watcher.ts'

/**
 * Limits on reading a file, in processor seconds and bytes of memory: a fixed amount, and more for each byte read. Valid files stay far
 * below them: a tokenizer of 17 MB takes one second and 300 MB.
 */
const readingLimits = { seconds: 3, secondsPerByte: 4e-6, memoryBytes: 400e6, memoryPerByte: 8 } as const

let mayDie = false
let watcher: Worker | undefined
/** Number of nested sections under limits. */
let depth = 0
/** Shared with the watcher: seconds at the start, seconds allowed, memory at the start, memory allowed. All are 0 outside of sections. */
const shared = new Float64Array(new SharedArrayBuffer(4 * 8))

/** Marks this process as one that may be killed because of a file. Without this call, `underLimits` does the work without limits. */
export function dieAtLimits(): void {
  mayDie = true
}

/**
 * Does work that reads an untrusted file. If the work exceeds `readingLimits` for the bytes read, the process is killed with an error that
 * names the file and the limit. Nothing else stops a pattern that matches forever or a parser that fills the memory.
 * @param what names the file in the error
 */
export function underLimits<T>(what: string, work: () => Promise<T>): Promise<T>
export function underLimits<T>(what: string, work: () => T): T
export function underLimits<T>(what: string, work: () => T | Promise<T>): T | Promise<T> {
  if (!mayDie) return work()
  open(what)
  let result: T | Promise<T>
  try {
    result = work()
  } catch (thrown) {
    close()
    throw thrown
  }
  if (result instanceof Promise) return result.finally(close)
  close()
  return result
}

/** Raises the limits of the current section for bytes read from its file. */
export function allowFor(bytes: number): void {
  if (depth === 0) return
  shared[1] = (shared[1] as number) + bytes * readingLimits.secondsPerByte
  shared[3] = (shared[3] as number) + bytes * readingLimits.memoryPerByte
}

function open(what: string): void {
  if (depth++ > 0) return
  watcher ??= startWatcher()
  const { user, system } = process.cpuUsage()
  shared.set([(user + system) / 1e6, readingLimits.seconds, process.memoryUsage.rss(), readingLimits.memoryBytes])
  watcher.postMessage(what)
}

function close(): void {
  if (--depth > 0) return
  shared.fill(0)
  watcher?.postMessage(null)
}

function startWatcher(): Worker {
  const started = new Worker(watcherSource, {
    eval: true,
    workerData: { shared, mark: limitMark },
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 },
  })
  started.unref()
  return started
}
