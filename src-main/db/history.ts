import { chmodSync, closeSync, existsSync, mkdirSync, openSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import Sqlite from 'better-sqlite3'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { plural } from '#contract/words.ts'
import { integrityProblems, makeBackup } from './backups.ts'
import { connect, type Database, faultOf, immediately } from './database.ts'
import { ExperimentsTable } from './experiments.ts'
import { latestVersion, migrate, migrations, refuseUnknown, schemaVersion } from './migrate.ts'
import { ModelsTable, TransfersTable } from './models.ts'
import { OwnersTable } from './owners.ts'
import { MeasuresTable } from './runs/measures.ts'
import { RunDocumentsTable } from './runs/run-documents.ts'
import { RunEventsTable } from './runs/run-events.ts'
import { RunQueries } from './runs/run-query.ts'
import { RunsTable } from './runs/runs.ts'
import { StepsTable } from './runs/steps.ts'
import { UndosTable } from './runs/undos.ts'
import { WaitingRuns } from './runs/waiting-runs.ts'
import { PromptSetsTable, SettingsTable, ViewsTable } from './settings.ts'
import { JudgingsTable, TranscriptsTable } from './transcripts.ts'
import { ValueStore } from './values.ts'
import { faultAt, Writes } from './writes.ts'

/** Set to 1, it lets a new history begin beside the stored values of another one. */
export const newHistoryVariable = 'ESPALIER_NEW_HISTORY'

export type History = ReturnType<typeof openHistory>

interface HistoryFolders {
  file: string
  backups: string
  values: string
}

export function historyFolders(folder: string): HistoryFolders {
  return { file: join(folder, 'history.sqlite'), backups: join(folder, 'backups'), values: join(folder, 'values') }
}

/**
 * Opens the history of a data folder. Checks the file, backs it up before a migration, and refuses it if a newer version wrote it.
 * @param settings `besideValues`: whether a new history may begin beside stored values, which then belong to another one
 */
export function openHistory(
  folder: string,
  values: ValueStore = new ValueStore(historyFolders(folder).values),
  steps = migrations,
  { besideValues = false, retryMilliseconds }: { besideValues?: boolean; retryMilliseconds?: number | undefined } = {},
) {
  makeFolder(folder)
  const folders = historyFolders(folder)
  requireRegular(folders.file)
  const refuseNew = () => besideValues || refuseBesideValues(folders, values)
  if (isEmpty(folders.file)) refuseNew()
  const db = openChecked(folders, steps, refuseNew)
  settleValues(db, values)
  const runs = new RunsTable(db)
  const writes = new Writes(db, folders.file, retryMilliseconds)
  const changes = db.prepare('SELECT total_changes()').pluck()
  return {
    db,
    folders,
    values,
    writes,
    runs,
    queries: new RunQueries(db, runs),
    queue: new WaitingRuns(db),
    documents: new RunDocumentsTable(db, values),
    measures: new MeasuresTable(db),
    events: new RunEventsTable(db),
    steps: new StepsTable(db, values),
    models: new ModelsTable(db),
    experiments: new ExperimentsTable(db),
    transcripts: new TranscriptsTable(db),
    judgings: new JudgingsTable(db),
    views: new ViewsTable(db),
    promptSets: new PromptSetsTable(db),
    settings: new SettingsTable(db),
    transfers: new TransfersTable(db),
    owners: new OwnersTable(db),
    undos: new UndosTable(db),
    /** Runs `work` as one transaction. */
    transaction: <T>(work: () => T): T => immediately(db, work),
    /** Returns a number that grows with every row that this process changes, even if the change is undone. */
    changes: (): number => changes.get() as number,
    /** Returns a number that changes when another process has written. */
    version: () => db.pragma('data_version', { simple: true }) as number,
    close(): void {
      if (!db.open) return
      // Neither is needed, and the next start does both again.
      writes.guard(() => {
        db.pragma('optimize')
        db.pragma('wal_checkpoint(PASSIVE)')
      })
      writes.close()
      db.close()
    },
  }
}

/** Throws if the folder's place is taken by a file. */
function makeFolder(folder: string): void {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() === false)
    throw new EspalierError('disk', `The data folder ${folder} is a file. Move it away, or set ESPALIER_HOME to another folder.`)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
}

/** Throws for a pipe, a device or a folder: opening a pipe would wait forever. */
function requireRegular(file: string): void {
  for (const one of [file, `${file}-wal`, `${file}-shm`]) {
    const found = statSync(one, { throwIfNoEntry: false })
    if (found && !found.isFile())
      throw new EspalierError('disk', `The history ${one} is not a regular file but a folder, pipe or device. Move it away.`)
  }
}

/** Whether nothing was ever stored in the file. A history that was just made may have all its content in the log beside it. */
function isEmpty(file: string): boolean {
  const sizeOf = (one: string) => statSync(one, { throwIfNoEntry: false })?.size ?? 0
  return sizeOf(file) === 0 && sizeOf(`${file}-wal`) === 0
}

function refuseBesideValues({ file, values: folder, backups }: HistoryFolders, values: ValueStore): void {
  const { files, bytes } = values.stored()
  if (files === 0) return
  throw new EspalierError(
    'conflict',
    `The history ${file} is missing or empty, but ${folder} has ${plural(files, 'stored value')} (${Math.ceil(bytes / 1e6)} MB) of an earlier one. Put the earlier history back, or copy a backup from ${backups} to its place. To begin a new history and keep these values, set ${newHistoryVariable}=1.`,
    { newHistory: true },
  )
}

/** Removes what no row names and what was left half written. A full or busy disk postpones that to the next start. */
function settleValues(db: Database, values: ValueStore): void {
  try {
    values.removeUnfinished()
    values.claim(db)
    values.sweep(db)
  } catch (thrown) {
    if (faultOf(thrown) === undefined) throw thrown
  }
}

function openChecked({ file, backups }: HistoryFolders, steps: readonly string[], refuseNew: () => void): Database {
  const existed = existsSync(file)
  closeToOthers(file)
  const db = connectOrExplain(file)
  try {
    refuseUnknown(db, steps)
    // In a transaction, because another process's migration would change the tables during the check.
    const check = () => integrityProblems(db)
    const isOld = () => schemaVersion(db) < latestVersion(steps)
    const problems = [...lostBytes(db, file), ...(isOld() ? immediately(db, check) : check())]
    if (problems.length > 0) throw damaged(file, backups, problems)
    if (schemaVersion(db) === 0) refuseNew()
    if (existed && isOld() && schemaVersion(db) > 0) makeBackup(db, backups, `before-schema-${latestVersion(steps)}`)
    migrate(db, steps)
    return db
  } catch (thrown) {
    db.close()
    throw isCorruption(thrown) ? damaged(file, backups, [thrown.message]) : namedFull(file, thrown)
  }
}

/** Returns a problem if the file is shorter than its pages. SQLite itself reads a page that was cut off as if it ended in zeros. */
function lostBytes(db: Database, file: string): string[] {
  const pages = db.pragma('page_count', { simple: true }) as number
  const wanted = pages * (db.pragma('page_size', { simple: true }) as number)
  if (statSync(file).size >= wanted) return []
  // The missing pages may still be in the log.
  const [copied] = db.pragma('wal_checkpoint(PASSIVE)') as { busy: number; log: number; checkpointed: number }[]
  const found = statSync(file).size
  if (found >= wanted || (copied && copied.log > copied.checkpointed)) return []
  return [`its last ${plural(wanted - found, 'byte')} of ${wanted} are missing`]
}

/** Lets only the user read the history, whatever folder it is in. SQLite gives its other files the same mode. */
function closeToOthers(file: string): void {
  try {
    closeSync(openSync(file, 'a', 0o600))
    for (const one of [file, `${file}-wal`, `${file}-shm`]) if (existsSync(one)) chmodSync(one, 0o600)
  } catch (thrown) {
    throw cannotOpen(file, thrown)
  }
}

function connectOrExplain(file: string): Database {
  try {
    return connect(file)
  } catch (thrown) {
    if (isCorruption(thrown)) throw damaged(file, join(file, '..', 'backups'), [thrown.message])
    const named = namedFull(file, thrown)
    throw faultOf(named) === 'locked' || faultOf(named) === 'full' ? named : cannotOpen(file, named)
  }
}

/** Returns an error that names the full disk instead of one that SQLite reports because of it. */
function namedFull(file: string, thrown: unknown): unknown {
  return faultAt(dirname(file), thrown) === 'full' ? new Sqlite.SqliteError('database or disk is full', 'SQLITE_FULL') : thrown
}

function cannotOpen(file: string, thrown: unknown): EspalierError {
  return new EspalierError(
    'disk',
    `The history ${file} cannot be opened: ${toErrorMessage(thrown).message} Check that the folder can be written to.`,
  )
}

function isCorruption(thrown: unknown): thrown is Error {
  return thrown instanceof Error && 'code' in thrown && /^SQLITE_(CORRUPT|NOTADB)/.test(String(thrown.code))
}

function damaged(file: string, backups: string, problems: string[]): EspalierError {
  return new EspalierError(
    'disk',
    `The history ${file} is damaged (${problems[0]}). Move it away, or replace it with a backup from ${backups}.`,
    { problems },
  )
}
