import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'

/**
 * Writes a temporary file that only the user can read, flushes and renames it, so that a reader sees either the old or the new content, and
 * never a partial one.
 */
export function writeWhole(file: string, content: string | Uint8Array): void {
  mkdirSync(dirname(file), { recursive: true })
  const unfinished = unfinishedName(file)
  try {
    writeFileSync(unfinished, content, { mode: 0o600, flush: true })
    renameSync(unfinished, file)
  } catch (thrown) {
    rmSync(unfinished, { force: true })
    throw thrown
  }
}

/** Returns the name under which this process writes a file before renaming it. It names the process, so that leftovers are recognised. */
export function unfinishedName(file: string): string {
  return `${file}.${process.pid}-${randomBytes(4).toString('hex')}@${hostname()}.unfinished`
}

/** Whether a file is still being written: by a process that is running, or on another machine. */
export function isBeingWritten(name: string): boolean {
  const [, pid, host] = /\.(\d+)-[0-9a-f]+@(.+)\.unfinished$/.exec(name) ?? []
  return pid !== undefined && (host !== hostname() || processExists(Number(pid)))
}

/** Removes what killed processes of this machine left unfinished in a folder and below. Each can be as large as a model. */
export function removeUnfinished(folder: string): void {
  if (!existsSync(folder)) return
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.unfinished') || isBeingWritten(entry.name)) continue
    rmSync(join(entry.parentPath, entry.name), { force: true })
  }
}

/** Whether a process is running on this machine. */
export function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return thrown instanceof Error && 'code' in thrown && thrown.code === 'EPERM'
  }
}
