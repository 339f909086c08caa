import { existsSync, readFileSync } from 'node:fs'

/** What a piece of work took. */
export interface Spent {
  readonly seconds: number
  /** Seconds of the processor, all cores together. */
  readonly processorSeconds: number
  /** Bytes read from files, and those of them that were not in the system's cache. Linux only, else NaN. */
  readonly bytesRead: number
  readonly bytesFromDisk: number
  /** The most memory of the process up to the end of the work. */
  readonly peakBytes: number
}

/** What this process took so far. */
export function spentSoFar(): Spent {
  const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage()
  const counters = existsSync('/proc/self/io') ? readFileSync('/proc/self/io', 'utf8') : ''
  const bytesOf = (name: string) => Number(new RegExp(`^${name}: (\\d+)`, 'm').exec(counters)?.[1])
  return {
    seconds: performance.now() / 1000,
    processorSeconds: (userCPUTime + systemCPUTime) / 1e6,
    bytesRead: bytesOf('rchar'),
    bytesFromDisk: bytesOf('read_bytes'),
    peakBytes: 1024 * maxRSS,
  }
}

export function addSpent(one: Spent, other: Spent | undefined, sign = 1): Spent {
  if (!other) return one
  return {
    seconds: one.seconds + sign * other.seconds,
    processorSeconds: one.processorSeconds + sign * other.processorSeconds,
    bytesRead: one.bytesRead + sign * other.bytesRead,
    bytesFromDisk: one.bytesFromDisk + sign * other.bytesFromDisk,
    peakBytes: Math.max(one.peakBytes, other.peakBytes),
  }
}

export const spentSince = (start: Spent): Spent => addSpent(spentSoFar(), start, -1)
