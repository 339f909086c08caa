import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { integrityProblems, makeBackup } from './backups.ts'
import { connect, type Database, immediately } from './database.ts'
import { ExperimentsTable } from './experiments.ts'
import { JudgingsTable } from './judgings.ts'
import { migrate, refuseNewer, schemaVersion } from './migrate.ts'
import { migrations } from './migrations/index.ts'
import { ModelsTable } from './models.ts'
import { OwnersTable } from './owners.ts'
import { PromptSetsTable } from './prompt-sets.ts'
import { MeasuresTable } from './runs/measures.ts'
import { RunDocumentsTable } from './runs/run-documents.ts'
import { RunEventsTable } from './runs/run-events.ts'
import { RunQueries } from './runs/run-query.ts'
import { RunsTable } from './runs/runs.ts'
import { StepsTable } from './runs/steps.ts'
import { UndosTable } from './runs/undos.ts'
import { WaitingRuns } from './runs/waiting-runs.ts'
import { SettingsTable } from './settings.ts'
import { TranscriptsTable } from './transcripts.ts'
import { TransfersTable } from './transfers.ts'
import { ValueStore } from './values.ts'
import { ViewsTable } from './views.ts'

export type History = ReturnType<typeof openHistory>

interface HistoryFolders {
  file: string
  backups: string
  values: string
}

export function historyFolders(folder: string): HistoryFolders {
  return { file: join(folder, 'history.sqlite'), backups: join(folder, 'backups'), values: join(folder, 'values') }
}

/** Opens the history of a data folder. Checks the file, backs it up before a migration, and refuses it if a newer version wrote it. */
export function openHistory(folder: string, values: ValueStore = new ValueStore(historyFolders(folder).values), steps = migrations) {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const folders = historyFolders(folder)
  const db = openChecked(folders, steps)
  const runs = new RunsTable(db)
  return {
    db,
    folders,
    values,
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
    /** Returns a number that changes when another process has written. */
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
    // In a transaction, because another process's migration would change the tables during the check.
    const check = () => integrityProblems(db)
    const problems = schemaVersion(db) < steps.length ? immediately(db, check) : check()
    if (problems.length > 0) throw damaged(file, backups, problems)
    if (existed && schemaVersion(db) > 0 && schemaVersion(db) < steps.length) makeBackup(db, backups, `before-schema-${steps.length}`)
    migrate(db, steps)
    return db
  } catch (thrown) {
    db.close()
    throw isCorruption(thrown) ? damaged(file, backups, [thrown.message]) : thrown
  }
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
