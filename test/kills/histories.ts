import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { connect } from '#db/database.ts'
import { latestVersion, migrate, schemaVersion } from '#db/migrate.ts'
import { type Killed, type Killing, requireWhole } from './subject.ts'

/** Enough rows to make copying a history slow. */
const fillerRows = 400

const opener = join(import.meta.dirname, 'open-history.ts')

/** Opens a history with one more migration, which copies and migrates it, and kills the process meanwhile. */
export async function killMigrations({ random, count, folder }: Killing): Promise<Killed> {
  const killed = { kills: 0, interrupted: 0, done: 0 }
  mkdirSync(folder, { recursive: true })
  const seconds = await timeMigration(folder)
  while (killed.kills < count) {
    if (!existsSync(join(folder, 'history.sqlite'))) makeOld(folder)
    const child = await startOpening(folder)
    await pause(random() * seconds * 2000)
    const wasKilled = child.exitCode === null && child.kill('SIGKILL')
    await gone(child)
    requireMigrated(folder)
    if (wasKilled) killed.kills++
    if (versionIn(folder) <= latestVersion()) killed.interrupted++
    else {
      killed.done++
      rmSync(folder, { recursive: true })
      mkdirSync(folder)
    }
  }
  return killed
}

async function timeMigration(folder: string): Promise<number> {
  makeOld(folder)
  const child = await startOpening(folder)
  const begun = performance.now()
  await gone(child)
  if (versionIn(folder) !== latestVersion() + 1) throw new Error('An undisturbed migration did not reach the last form.')
  const seconds = (performance.now() - begun) / 1000
  rmSync(folder, { recursive: true })
  mkdirSync(folder)
  return seconds
}

function makeOld(folder: string): void {
  const db = connect(join(folder, 'history.sqlite'))
  migrate(db)
  db.exec('CREATE TABLE filler(bytes BLOB)')
  const insert = db.prepare('INSERT INTO filler VALUES (randomblob(50000))')
  db.transaction(() => {
    for (let row = 0; row < fillerRows; row++) insert.run()
  })()
  db.close()
}

/** Returns when the process is about to open the history. */
async function startOpening(folder: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [opener, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return child
}

const gone = (child: ChildProcess) =>
  new Promise<void>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve()
    else child.once('exit', () => resolve())
  })

function versionIn(folder: string): number {
  const db = connect(join(folder, 'history.sqlite'))
  try {
    return schemaVersion(db)
  } finally {
    db.close()
  }
}

/** Throws unless every row exists, in one form or another, and every copy with a final name is complete. */
function requireMigrated(folder: string): void {
  requireWhole(folder)
  const backups = join(folder, 'backups')
  const copies = existsSync(backups) ? readdirSync(backups).filter((name) => name.endsWith('.sqlite')) : []
  for (const file of [join(folder, 'history.sqlite'), ...copies.map((name) => join(backups, name))]) {
    const db = connect(file)
    try {
      const rows = db.prepare('SELECT count(*) FROM filler').pluck().get()
      if (rows !== fillerRows || db.pragma('integrity_check', { simple: true }) !== 'ok')
        throw new Error(`${file} lost rows or is damaged.`)
    } finally {
      db.close()
    }
  }
  const left = existsSync(backups) ? readdirSync(backups).filter((name) => name.endsWith('.unfinished')) : []
  if (left.length > 1) throw new Error(`${left.length} unfinished copies were left behind.`)
}
