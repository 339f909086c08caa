import { createHash } from 'node:crypto'
import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import type { z } from 'zod'
import { type StoredStep, storedStep } from '#contract/clusters/run-file.ts'
import { EspalierError } from '#contract/errors.ts'
import { writeWhole } from '#runtime/write-whole.ts'

/** Paths of one run in a folder that the workbench and the nodes share. */
export interface RunFolder {
  root: string
  /** Steps shared between all runs. */
  shared: string
  request: string
  steps: string
  tensors: string
  attempts: string
  result: string
}

export function runFolderOf(folder: string, run: string): RunFolder {
  const root = join(folder, 'runs', run)
  return {
    root,
    shared: join(folder, 'shared'),
    request: join(root, 'request.json'),
    steps: join(root, 'steps'),
    tensors: join(root, 'tensors'),
    attempts: join(root, 'attempts'),
    result: join(root, 'result.json'),
  }
}

/** Returns the run folder that holds a request file. */
export function runFolderAround(file: string): RunFolder {
  const root = dirname(resolve(file))
  return runFolderOf(resolve(root, '..', '..'), basename(root))
}

/** Returns the names of a folder's entries in order; none if the folder is missing. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch {
    return []
  }
}

/** Limit for JSON files. The scores of a model with 80 blocks take 45 MB. */
const mostJsonBytes = 200_000_000

/** Reads a JSON file. Returns undefined if it is missing or unreadable, or if the schema does not accept it. */
export function readWhole<T extends z.ZodType>(schema: T, file: string): z.output<T> | undefined {
  try {
    return schema.safeParse(JSON.parse(readNodeFile(file, 0, mostJsonBytes).toString())).data
  } catch {
    return undefined
  }
}

export const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex')

export const isFinished = (name: string): boolean => name.endsWith('.json')

/** Writes a step. Its tensors must already be in the folder `tensors` beside it. */
export function writeStep(file: string, { name, value, tensors }: Omit<StoredStep, 'sha256'>): void {
  const named = tensors ? { tensors: { ...tensors, file: basename(tensors.file) } } : {}
  writeWhole(file, JSON.stringify({ name, value, ...named, sha256: hashOf(JSON.stringify(value)) } satisfies StoredStep))
}

/** Reads a step and the path of its tensors. Returns undefined if it is missing or damaged, and so must be computed again. */
export function readStep(file: string, tensorFolder: string): Omit<StoredStep, 'sha256'> | undefined {
  const step = readWhole(storedStep, file)
  if (!step || hashOf(JSON.stringify(step.value)) !== step.sha256) return undefined
  const { name, value, tensors } = step
  if (!tensors) return { name, value }
  const placed = join(tensorFolder, basename(tensors.file))
  return isNodeFile(placed) ? { name, value, tensors: { ...tensors, file: placed } } : undefined
}

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
