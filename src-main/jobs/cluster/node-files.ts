import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs'
import { EspalierError } from '#contract/errors.ts'

/** Nodes are not trusted. Opening a link could expose another local file, and a pipe would block forever. Windows has neither flag. */
const openFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0)

/**
 * Reads at most `mostBytes` of a file that a node wrote. A negative `position` counts from the end. Returns nothing if the file is missing
 * or not a regular file.
 */
export function readNodeFile(file: string, position: number, mostBytes: number): Buffer {
  let handle: number
  try {
    handle = openSync(file, openFlags)
  } catch {
    return Buffer.alloc(0)
  }
  try {
    const found = fstatSync(handle)
    if (!found.isFile()) return Buffer.alloc(0)
    const from = position < 0 ? Math.max(0, found.size + position) : position
    const buffer = Buffer.alloc(Math.min(mostBytes, Math.max(0, found.size - from)))
    return buffer.subarray(0, readSync(handle, buffer, 0, buffer.length, from))
  } finally {
    closeSync(handle)
  }
}

/** Whether `file` is a regular file. A device has no end, and a link can lead anywhere. */
export const isNodeFile = (file: string): boolean => lstatSync(file, { throwIfNoEntry: false })?.isFile() === true

/** Throws if `file` is not a regular file. */
export function requireNodeFile(file: string): void {
  if (!isNodeFile(file)) throw new EspalierError('invalid', `${file} from the cluster is not a regular file. Retry the run.`, { file })
}
