import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { integrityProblems, makeBackup } from './backups.ts'
import { connect, type Database, immediately } from './database.ts'
import { experimentsTable } from './experiments.ts'
import { judgingsTable } from './judgings.ts'
import { migrate, refuseNewer, schemaVersion } from './migrate.ts'
import { migrations } from './migrations/index.ts'
import { modelsTable } from './models.ts'
import { ownersTable } from './owners.ts'
import { promptSetsTable } from './prompt-sets.ts'
import { measuresTable } from './runs/measures.ts'
import { runDocumentsTable } from './runs/run-documents.ts'
import { runEventsTable } from './runs/run-events.ts'
import { runQueries } from './runs/run-query.ts'
import { runQueueTable } from './runs/run-queue.ts'
import { runsTable } from './runs/runs.ts'
import { stepsTable } from './runs/steps.ts'
import { undosTable } from './runs/undos.ts'
import { settingsTable } from './settings.ts'
import { transcriptsTable } from './transcripts.ts'
import { transfersTable } from './transfers.ts'
import { type ValueStore, valueStore } from './values.ts'
import { viewsTable } from './views.ts'

export type History = ReturnType<typeof openHistory>

export interface HistoryFolders {
  file: string
  backups: string
  values: string
}

export function historyFolders(folder: string): HistoryFolders {
  return { file: join(folder, 'history.sqlite'), backups: join(folder, 'backups'), values: join(folder, 'values') }
}

/** Opens the history of a data folder. It is checked, backed up before a migration, and refused if a newer version wrote it. */
export function openHistory(folder: string, values: ValueStore = valueStore(historyFolders(folder).values), steps = migrations) {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const folders = historyFolders(folder)
  const db = openChecked(folders, steps)
  const runs = runsTable(db)
  return {
    db,
    folders,
    values,
    runs,
    queries: runQueries(db, runs),
    queue: runQueueTable(db),
    documents: runDocumentsTable(db, values),
    measures: measuresTable(db),
    events: runEventsTable(db),
    steps: stepsTable(db, values),
    models: modelsTable(db),
    experiments: experimentsTable(db),
    transcripts: transcriptsTable(db),
    judgings: judgingsTable(db),
    views: viewsTable(db),
    promptSets: promptSetsTable(db),
    settings: settingsTable(db),
    transfers: transfersTable(db),
    owners: ownersTable(db),
    undos: undosTable(db),
    /** Runs `work` as one transaction. */
    transaction: <T>(work: () => T): T => immediately(db, work),
    /** A number that changes when another process has written. */
    version: () => db.pragma('data_version', { simple: true }) as number,
    close(): void {
      if (!db.open) return
      db.pragma('optimize')
      db.pragma('wal_checkpoint(PASSIVE)')
      db.close()
    },
  }
}

function openChecked({ file, backups }: HistoryFolders, steps: readonly string[]): Database {
  const existed = existsSync(file)
  closeToOthers(file)
  const db = connectOrExplain(file)
  try {
    refuseNewer(db, steps)
    const problems = integrityProblems(db)
    if (problems.length > 0) throw damaged(file, backups, problems)
    if (existed && schemaVersion(db) > 0 && schemaVersion(db) < steps.length) makeBackup(db, backups, `before-schema-${steps.length}`)
    migrate(db, steps)
    return db
  } catch (thrown) {
    db.close()
    throw isCorruption(thrown) ? damaged(file, backups, [thrown.message]) : thrown
  }
}

/** Only the user may read the history, whatever folder it is in. SQLite gives its other files the same mode. */
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
    throw cannotOpen(file, thrown)
  }
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
