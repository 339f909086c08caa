import { Worker } from 'node:worker_threads'
import { limitMark } from '#contract/machine/compute-messages.ts'
import { watcherSource } from './watcher.ts'

/**
 * Limits on reading: processor seconds and bytes of memory, a fixed part per file and more for each byte read. Valid files stay far below:
 * a tokenizer of 17 MB takes a second and 300 MB.
 */
const readingLimits = { seconds: 3, secondsPerByte: 4e-6, memoryBytes: 400e6, memoryPerByte: 8 } as const

let mayDie = false
let watcher: Worker | undefined
/** Number of nested sections under limits. */
let depth = 0
/** Shared with the watcher: seconds at the start, seconds allowed, memory at the start, memory allowed; all zero outside of sections. */
const shared = new Float64Array(new SharedArrayBuffer(4 * 8))

/**
 * Marks this process as one that may die because of a file. From now on `underLimits` ends it; otherwise `underLimits` only does the work.
 */
export function dieAtLimits(): void {
  mayDie = true
}

/**
 * Does work that reads an untrusted file. If it exceeds `readingLimits` for the bytes read, the process ends with an error that names the
 * file and the limit, because nothing else stops a pattern that matches forever or a parser that fills the memory. @param what the file,
 * for the error
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

/** Allows the current section more time and memory, for bytes read from its file. */
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
