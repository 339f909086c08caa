import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { unfinishedName } from './unfinished.ts'

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
