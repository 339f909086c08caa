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
/** Shared with the watcher: seconds and bytes of memory allowed in this section. */
const allowed = new Float64Array(new SharedArrayBuffer(2 * 8))
/** Shared with the watcher: the number of this section, or 0 outside of sections; and whether the watcher looks. */
const state = new Int32Array(new SharedArrayBuffer(2 * 4))
let sections = 0
/** What the watcher knows is read. */
let watched = ''

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
  allowed[0] = (allowed[0] as number) + bytes * readingLimits.secondsPerByte
  allowed[1] = (allowed[1] as number) + bytes * readingLimits.memoryPerByte
}

/** Decoding opens a section for each token, so a section costs no message and no look at the memory unless the watcher is idle. */
function open(what: string): void {
  if (depth++ > 0) return
  watcher ??= startWatcher()
  allowed.set([readingLimits.seconds, readingLimits.memoryBytes])
  sections = (sections % 1e9) + 1
  Atomics.store(state, 0, sections)
  if (what === watched && Atomics.load(state, 1) === 1) return
  watched = what
  watcher.postMessage(what)
}

function close(): void {
  if (--depth === 0) Atomics.store(state, 0, 0)
}

function startWatcher(): Worker {
  const started = new Worker(watcherSource, {
    eval: true,
    workerData: { allowed, state, mark: limitMark },
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 },
  })
  started.unref()
  return started
}
