import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { EspalierError } from '#contract/errors.ts'

export interface WriteFolderOptions {
  /** Whether an existing folder that is not empty gives way. */
  replace?: boolean
}

/**
 * Fills a folder that appears under its name only when it is complete and on the disk: `fill` writes into a hidden sibling, which is
 * then renamed. A process that is killed before leaves at most hidden siblings, which the next call for the same name removes.
 * Throws `conflict` when the folder exists and is not empty, unless told to replace it; the old one stays until the new one is ready.
 */
export async function writeFolderAtomically(
  folder: string,
  fill: (temporary: string) => Promise<void>,
  options: WriteFolderOptions = {},
): Promise<void> {
  const target = resolve(folder)
  await mkdir(dirname(target), { recursive: true })
  await clearStale(target)
  await refuseOccupied(target, options)
  const temporary = hiddenSibling(target, 'new')
  try {
    await mkdir(temporary)
    await fill(temporary)
    await syncTree(temporary)
    await moveIntoPlace(temporary, target, options)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw error
  }
}

// Beside folder `name`: `.name.new-PID-N` while it is filled, `.name.old-PID-N` while it gives way.
let count = 0

function hiddenSibling(target: string, kind: 'new' | 'old'): string {
  return join(dirname(target), `.${basename(target)}.${kind}-${process.pid}-${count++}`)
}

async function refuseOccupied(target: string, { replace }: WriteFolderOptions): Promise<void> {
  const found = await stat(target).catch(() => undefined)
  if (!found) return
  if (!found.isDirectory()) throw new EspalierError('conflict', `${target} exists and is a file. Choose another name for the folder.`)
  if (!replace && (await readdir(target)).length > 0) {
    throw new EspalierError('conflict', `${target} exists and is not empty. Choose another name, or say that it may be replaced.`)
  }
}

async function moveIntoPlace(temporary: string, target: string, options: WriteFolderOptions): Promise<void> {
  await refuseOccupied(target, options)
  const old = hiddenSibling(target, 'old')
  const moved = await rename(target, old).then(
    () => true,
    () => false,
  )
  try {
    await rename(temporary, target)
  } catch (error) {
    if (moved) await rename(old, target)
    throw error
  }
  await syncPath(dirname(target))
  if (moved) await rm(old, { recursive: true, force: true })
}

/** Removes what killed processes left, and brings back an old folder whose successor never took its place. */
async function clearStale(target: string): Promise<void> {
  const prefix = `.${basename(target)}.`
  for (const name of await readdir(dirname(target))) {
    const [, kind, process] = name.startsWith(prefix) ? (/^(new|old)-(\d+)-\d+$/.exec(name.slice(prefix.length)) ?? []) : []
    if (!kind || isAlive(Number(process))) continue
    const path = join(dirname(target), name)
    if (kind === 'old' && !(await stat(target).catch(() => undefined))) await rename(path, target)
    else await rm(path, { recursive: true, force: true })
  }
}

function isAlive(pid: number): boolean {
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
  // Windows has no way to flush a folder, and needs write access to flush a file.
  const windows = process.platform === 'win32'
  if (windows && (await stat(path)).isDirectory()) return
  const handle = await open(path, windows ? 'r+' : 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
