import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { Backup } from '#contract/machine/history.ts'
import { removeUnfinished, unfinishedName } from '#runtime/write-whole.ts'
import { connect, type Database } from './database.ts'
import { refuseUnknown } from './migrate.ts'

const keptCopies = 10

/** Lists the backups of the history file, newest first. Each is a complete database. */
export function listBackups(folder: string): Backup[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter((name) => name.endsWith('.sqlite'))
    .map((name) => ({ name, bytes: statSync(join(folder, name)).size, createdAt: Math.round(statSync(join(folder, name)).mtimeMs) }))
    .sort((a, b) => b.createdAt - a.createdAt)
}

/**
 * Backs up the history and deletes the oldest backups. `VACUUM INTO` writes a compact, consistent copy even while others read and write.
 * The copy is renamed when it is complete.
 */
export function makeBackup(db: Database, folder: string, reason: string): Backup {
  mkdirSync(folder, { recursive: true })
  const stamp = new Date().toISOString().replaceAll(/[:.]/g, '-')
  const file = join(folder, `${stamp}-${reason}.sqlite`)
  const unfinished = unfinishedName(file)
  removeUnfinished(folder)
  try {
    closeSync(openSync(unfinished, 'w', 0o600))
    db.prepare('VACUUM INTO ?').run(unfinished)
    renameSync(unfinished, file)
  } catch (thrown) {
    rmSync(unfinished, { force: true })
    throw new EspalierError('disk', `The history could not be copied to ${folder}: ${thrown instanceof Error ? thrown.message : thrown}`)
  }
  for (const { name } of listBackups(folder).slice(keptCopies)) rmSync(join(folder, name))
  return { name: basename(file), bytes: statSync(file).size, createdAt: Math.round(statSync(file).mtimeMs) }
}

/** Replaces a closed history with a backup. The backup is checked first, and the replacement is one rename. */
export function restoreBackup(file: string, folder: string, name: string): void {
  const source = join(folder, basename(name))
  if (!existsSync(source)) throw new EspalierError('not-found', `There is no backup ${name} in ${folder}.`)
  const incoming = `${file}.incoming`
  copyFileSync(source, incoming)
  try {
    const db = connect(incoming)
    try {
      refuseUnknown(db)
      if (integrityProblems(db).length > 0) throw new EspalierError('invalid', `The backup ${name} is damaged.`)
      db.pragma('journal_mode = DELETE')
    } finally {
      db.close()
    }
    for (const suffix of ['-wal', '-shm']) rmSync(file + suffix, { force: true })
    renameSync(incoming, file)
  } finally {
    for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(incoming + suffix, { force: true })
  }
}

export function integrityProblems(db: Database, thorough = false): string[] {
  const rows = db.pragma(thorough ? 'integrity_check(20)' : 'quick_check(20)') as Record<string, string>[]
  return rows.flatMap((row) => Object.values(row)).filter((line) => line !== 'ok')
}
