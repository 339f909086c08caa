import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { exists } from './regular-file.ts'

interface WriteFolderOptions {
  /** Whether an existing folder may be replaced even if it is not empty. */
  replace?: boolean
}

/**
 * Writes a folder that appears under its name only when it is complete and on disk. `fill` writes into a hidden sibling, which is then
 * renamed. If the process is killed, only hidden siblings remain; the next call for the same name removes them, or restores an old folder
 * from them. Throws `conflict` if `folder` is a file, or if it is not empty and `replace` is not set. With `replace`, the old folder stays
 * until the new one is ready.
 */
export async function writeFolderAtomically(
  folder: string,
  fill: (temporary: string) => Promise<void>,
  options: WriteFolderOptions = {},
): Promise<void> {
  const target = resolve(folder)
  const temporary = hiddenSibling(target, 'new')
  try {
    await mkdir(dirname(target), { recursive: true })
    await clearStale(target)
    await refuseOccupied(target, options)
    await mkdir(temporary)
    await fill(temporary)
    await syncTree(temporary)
    await moveIntoPlace(temporary, target, options)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw explain(error, target, temporary)
  }
}

// Hidden siblings of folder `name`: `.name.new-PID-TOKEN-N` is the new folder while it is filled, `.name.old-PID-TOKEN-N` the old one while
// it is replaced. The token is random for each process, because processes in different containers may have the same id.
const token = randomBytes(4).toString('hex')
let count = 0

function hiddenSibling(target: string, kind: 'new' | 'old'): string {
  return join(dirname(target), `.${basename(target)}.${kind}-${process.pid}-${token}-${count++}`)
}

const diskFaults: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full. Free some space or choose another disk',
  EDQUOT: 'your quota on this disk is used up. Free some space or choose another disk',
  EFBIG: 'the disk allows no file that large. Choose another disk',
  EACCES: 'writing there is not permitted. Choose another place',
  EPERM: 'writing there is not permitted. Choose another place',
  EROFS: 'the disk is read-only. Choose another place',
}

/**
 * Turns a disk error into a message with the folder's final name, even if the error occurred in a folder inside. Returns other errors
 * unchanged.
 */
function explain(error: unknown, target: string, temporary: string): unknown {
  if (error instanceof EspalierError && error.code === 'disk' && error.message.startsWith(temporary))
    return new EspalierError('disk', error.message.replace(/^.* could not be written/, `${target} could not be written`))
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const fault = Object.hasOwn(diskFaults, code) ? diskFaults[code] : undefined
  return fault === undefined ? error : new EspalierError('disk', `${target} could not be written: ${fault}. Nothing was changed there.`)
}

async function refuseOccupied(target: string, { replace }: WriteFolderOptions): Promise<void> {
  const found = await stat(target).catch(() => undefined)
  if (!found) return
  if (!found.isDirectory()) throw new EspalierError('conflict', `${target} exists and is a file. Choose another name for the folder.`)
  if (!replace && (await readdir(target)).length > 0) {
    throw new EspalierError('conflict', `${target} exists and is not empty. Choose another name.`)
  }
}

async function moveIntoPlace(temporary: string, target: string, options: WriteFolderOptions): Promise<void> {
  await refuseOccupied(target, options)
  const old = hiddenSibling(target, 'old')
  const moved = await exists(target)
  if (moved) await rename(target, old)
  try {
    await rename(temporary, target)
  } catch (error) {
    if (moved) await rename(old, target)
    throw error
  }
  // The new folder is in place. A parent that cannot be flushed only makes a power cut in the next seconds matter.
  await syncPath(dirname(target)).catch(() => {})
  if (moved) await rm(old, { recursive: true, force: true })
}

const siblingName = /^(new|old)-(\d+)-([0-9a-f]+)-\d+$/

/** Removes what killed processes left behind, and restores an old folder if the new one never took its place. */
async function clearStale(target: string): Promise<void> {
  const prefix = `.${basename(target)}.`
  for (const name of await readdir(dirname(target))) {
    const [, kind, pid, owner] = name.startsWith(prefix) ? (siblingName.exec(name.slice(prefix.length)) ?? []) : []
    if (!kind || isWorking(Number(pid), owner)) continue
    const path = join(dirname(target), name)
    if (kind === 'old' && !(await stat(target).catch(() => undefined))) await rename(path, target)
    else await rm(path, { recursive: true, force: true })
  }
}

function isWorking(pid: number, owner: string | undefined): boolean {
  if (pid === process.pid) return owner === token
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) await syncTree(path)
    else if (entry.isFile()) await syncPath(path)
  }
  await syncPath(folder)
}

async function syncPath(path: string): Promise<void> {
  // Windows cannot flush a folder, and needs write access to flush a file.
  const windows = process.platform === 'win32'
  if (windows && (await stat(path)).isDirectory()) return
  const handle = await open(path, windows ? 'r+' : 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
