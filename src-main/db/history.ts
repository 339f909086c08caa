import { chmodSync, closeSync, existsSync, mkdirSync, openSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import Sqlite from 'better-sqlite3'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { ExperimentEntry, Grid } from '#contract/experiments/experiments.ts'
import type { PromptSet } from '#contract/playground/playground.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { SavedView } from '#contract/runs/runs.ts'
import { inspectionTitles } from '#contract/titles.ts'
import { plural } from '#contract/words.ts'
import { processExists } from '#runtime/write-whole.ts'
import { integrityProblems, makeBackup } from './backups.ts'
import { connect, type Database, faultOf, immediately } from './database.ts'
import { latestVersion, migrate, migrations, refuseUnknown, schemaVersion } from './migrate.ts'
import { ModelsTable, TransfersTable } from './models.ts'
import { MeasuresTable } from './runs/measures.ts'
import { RunDocumentsTable } from './runs/run-documents.ts'
import { RunEventsTable } from './runs/run-events.ts'
import { RunQueries } from './runs/run-query.ts'
import { RunsTable } from './runs/runs.ts'
import { StepsTable } from './runs/steps.ts'
import { UndosTable } from './runs/undos.ts'
import { WaitingRuns } from './runs/waiting-runs.ts'
import { fromJsonOrNull, readRow, Table } from './sql-table.ts'
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
  const listChanges = db.prepare('SELECT count FROM list_changes').pluck()
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
    /** Returns a number that grows with every change, by any process, to what lists of runs, experiments and models show. */
    listChanges: (): number => listChanges.get() as number,
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

/** How often, and for how many milliseconds each, the check waits for another process that copies its log into the file. */
const [mostWaits, wait] = [100, 10]

/** Returns a problem if the file is shorter than its pages. SQLite itself reads a page that was cut off as if it ended in zeros. */
function lostBytes(db: Database, file: string): string[] {
  for (let waits = 0; waits < mostWaits; waits++) {
    const pages = db.pragma('page_count', { simple: true }) as number
    const wanted = pages * (db.pragma('page_size', { simple: true }) as number)
    if (statSync(file).size >= wanted) return []
    // The missing pages may still be in the log.
    const [copied] = db.pragma('wal_checkpoint(PASSIVE)') as { busy: number; log: number; checkpointed: number }[]
    const found = statSync(file).size
    if (found >= wanted || (copied && copied.log > copied.checkpointed)) return []
    if (copied?.busy !== 1) return [`its last ${plural(wanted - found, 'byte')} of ${wanted} are missing`]
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, wait)
  }
  return []
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

interface NewExperiment {
  id: string
  name: string
  notes: string
  tags: string[]
  grid: Grid | null
  createdAt: number
}

interface ExperimentPatch {
  name?: string | undefined
  notes?: string | undefined
  tags?: string[] | undefined
  starred?: boolean | undefined
  archivedAt?: number | null | undefined
}

const inspections = Object.keys(inspectionTitles)
  .map((method) => `'${method}'`)
  .join()

const selected = 'SELECT id, name, notes, tags, starred, archived_at IS NOT NULL AS archived, created_at FROM experiments'
const readExperiment = readRow<Omit<ExperimentEntry, 'counts' | 'runs' | 'baselines' | 'changedModels'>>({
  json: ['tags'],
  flags: ['starred', 'archived'],
})

export class ExperimentsTable extends Table {
  /** What inspects the runs of an experiment is no run of it. */
  readonly #counts: (id: string) => { status: RunStatus; runs: number }[] = this.all(
    `SELECT status, count(*) AS runs FROM runs WHERE experiment = ? AND method NOT IN (${inspections}) GROUP BY status`,
  )
  readonly #baselines: (id: string) => string[] = this.all('SELECT id FROM runs WHERE experiment = ? AND baseline = 1 ORDER BY number')
  readonly #changedModels: (id: string) => string[] = this.all(
    `SELECT m.name FROM runs r JOIN models m ON m.id = r.model WHERE r.experiment = ? AND r.status = 'done'
     GROUP BY r.model HAVING count(DISTINCT coalesce(r.fingerprint, '')) > 1 ORDER BY m.name`,
  )
  readonly #toEntry = (row: object): ExperimentEntry => {
    const experiment = readExperiment(row)
    const byStatus = this.#counts(experiment.id)
    return {
      ...experiment,
      counts: Object.fromEntries(byStatus.map(({ status, runs }) => [status, runs])),
      runs: byStatus.reduce((sum, { runs }) => sum + runs, 0),
      baselines: this.#baselines(experiment.id),
      changedModels: this.#changedModels(experiment.id),
    }
  }

  readonly insert: (experiment: NewExperiment) => void = this.run(
    'INSERT INTO experiments(id, name, notes, tags, grid, created_at) VALUES (@id, @name, @notes, @tags, @grid, @createdAt)',
  )
  readonly find: (id: string) => ExperimentEntry | undefined = this.first(`${selected} WHERE id = ?`, this.#toEntry)
  readonly list: (archived: boolean) => ExperimentEntry[] = this.all(
    `${selected} WHERE archived_at IS NULL OR ? ORDER BY created_at DESC, id DESC`,
    this.#toEntry,
  )
  readonly grid: (id: string) => Grid | null | undefined = this.first('SELECT grid FROM experiments WHERE id = ?', fromJsonOrNull<Grid>)
  readonly archivedAt: (id: string) => number | null | undefined = this.first('SELECT archived_at FROM experiments WHERE id = ?')
  readonly remove: (id: string) => void = this.run('DELETE FROM experiments WHERE id = ?')

  /** Throws if there is none. */
  get(id: string): ExperimentEntry {
    return this.known('experiment', id, this.find(id))
  }

  patch(id: string, { archivedAt, ...patch }: ExperimentPatch): void {
    this.update('experiments', 'id', id, { ...patch, archived_at: archivedAt })
  }
}

/** An owner without a heartbeat for this long is considered dead, whatever its process id says. */
const silenceMilliseconds = 60_000

interface OwnerRow {
  id: string
  pid: number
  host: string
  heartbeat_at: number
  works_queue: number
}

/** The processes that have this history open, and which of them runs the queue. */
export class OwnersTable extends Table {
  readonly #all: () => OwnerRow[] = this.all('SELECT id, pid, host, heartbeat_at, works_queue FROM owners')
  readonly #insert: (id: string, pid: number, host: string, startedAt: number, heartbeatAt: number) => void = this.run(
    'INSERT OR REPLACE INTO owners(id, pid, host, started_at, heartbeat_at) VALUES (?, ?, ?, ?, ?)',
  )
  readonly #beat: (now: number, id: string) => number = this.run('UPDATE owners SET heartbeat_at = ? WHERE id = ?')
  readonly #setQueue: (works: boolean, id: string) => number = this.run('UPDATE owners SET works_queue = ? WHERE id = ?')

  readonly remove: (id: string) => void = this.run('DELETE FROM owners WHERE id = ?')

  /** Until then, silence does not count as death: this process was stopped, or the history locked, and so may others have been. */
  patientUntil = 0

  dead(now: number): string[] {
    return this.#all().flatMap((owner) => (this.#isAlive(owner, now) ? [] : [owner.id]))
  }

  /** Returns how many other living processes have this history open. */
  others(id: string, now: number): number {
    return this.#all().filter((owner) => owner.id !== id && this.#isAlive(owner, now)).length
  }

  register(id: string, now: number): void {
    this.#insert(id, process.pid, hostname(), now, now)
  }

  /** Records a heartbeat. Registers the process if it is new, or if another process considered it dead and removed it. */
  keep(id: string, now: number): void {
    if (this.#beat(now, id) === 0) this.register(id, now)
  }

  leaveQueue(id: string): void {
    this.#setQueue(false, id)
  }

  /** Takes over the queue unless another living process has it. Returns whether this process has it now. */
  takeQueue(id: string, now: number): boolean {
    return immediately(this.db, () => {
      const holder = this.#all().find((owner) => owner.works_queue === 1 && this.#isAlive(owner, now))
      return holder ? holder.id === id : this.#setQueue(true, id) === 1
    })
  }

  #isAlive({ pid, host, heartbeat_at }: OwnerRow, now: number): boolean {
    // If a clock was set back, patience ends too far in the future to count.
    const isPatient = now <= this.patientUntil && this.patientUntil - now <= silenceMilliseconds
    if (now - heartbeat_at > silenceMilliseconds && !isPatient) return false
    // If a clock was set back, heartbeats are in the future. Then the process id decides, except for an owner on another machine.
    if (heartbeat_at - now > silenceMilliseconds && host !== hostname()) return false
    return host !== hostname() || pid === process.pid || processExists(pid)
  }
}

/** JSON values by name: the user's settings, and what the program remembers about this machine. */
export class SettingsTable extends Table {
  readonly #save: (name: string, value: string) => void = this.run('INSERT OR REPLACE INTO settings(name, value) VALUES (?, ?)')

  readonly #find: (name: string) => string | undefined = this.first('SELECT value FROM settings WHERE name = ?')
  readonly #names: () => string[] = this.all('SELECT name FROM settings WHERE NOT json_valid(value) ORDER BY name')

  /** Returns a value, or undefined if it is missing or damaged, so that one damaged row stops no start. */
  get(name: string): unknown {
    const text = this.#find(name)
    try {
      return text === undefined ? undefined : JSON.parse(text)
    } catch {
      return undefined
    }
  }

  /** The values that cannot be read. */
  problems(): string[] {
    return this.#names().map((name) => `The stored value "${name}" is not valid JSON, so its default is used. Save it again.`)
  }

  set(name: string, value: unknown): void {
    this.#save(name, JSON.stringify(value))
  }
}

const readView = readRow<SavedView>({ json: ['state'] })

/** Saved filters, columns and sort orders of the history, each with a unique name. */
export class ViewsTable extends Table {
  readonly save: (view: SavedView) => SavedView = this.one(
    `INSERT INTO views(id, name, state, created_at) VALUES (@id, @name, @state, @createdAt)
     ON CONFLICT(name) DO UPDATE SET state = excluded.state RETURNING *`,
    readView,
  )
  readonly list: () => SavedView[] = this.all('SELECT * FROM views ORDER BY name', readView)
  readonly remove: (id: string) => number = this.run('DELETE FROM views WHERE id = ?')
}

const promptSetColumns = 'id, name, prompts, 0 AS built_in'
const readSet = readRow<PromptSet>({ json: ['prompts'], flags: ['builtIn'] })

export class PromptSetsTable extends Table {
  readonly save: (set: Pick<PromptSet, 'id' | 'name' | 'prompts'> & { createdAt: number }) => PromptSet = this.one(
    `INSERT INTO prompt_sets(id, name, prompts, created_at) VALUES (@id, @name, @prompts, @createdAt)
     ON CONFLICT(name) DO UPDATE SET prompts = excluded.prompts RETURNING ${promptSetColumns}`,
    readSet,
  )
  readonly list: () => PromptSet[] = this.all(`SELECT ${promptSetColumns} FROM prompt_sets ORDER BY name`, readSet)
  readonly remove: (id: string) => number = this.run('DELETE FROM prompt_sets WHERE id = ?')
}
