import type { Progress } from '#contract/runs/progress.ts'
import { type RunField, runFields } from '#contract/runs/run-fields.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { ParameterValue, RunEntry, RunProblem } from '#contract/runs/runs.ts'
import type { Database, Statement } from '../database.ts'
import { type JobRecord, publicJob } from './jobs.ts'
import { measuresTable } from './measures.ts'
import { parametersTable } from './parameters.ts'
import { columnOf } from './run-sql.ts'

/** The fields of a new run; everything else is filled in later. */
export interface NewRun {
  id: string
  name: string
  status: RunStatus
  experiment: string | null
  model: string
  method: string
  baseline: boolean
  seed: number
  nominal: number | null
  parent: string | null
  /** A cluster's name; null for this machine. */
  executor: string | null
  tags: string[]
  notes: string
  createdAt: number
  parameters: Record<string, ParameterValue>
}

type SnakeCase<Name extends string> = Name extends `${infer First}${infer Rest}`
  ? `${First extends Uppercase<First> ? `_${Lowercase<First>}` : First}${SnakeCase<Rest>}`
  : ''

/** SQLite stores booleans as 0 and 1. */
type Stored<Value> = Value extends boolean ? number : Value

/** A row as the main process uses it: the scalar fields by column name, plus those that only the queue and the screens need. */
export type RunRow = { [Field in RunField as SnakeCase<Field>]: Stored<RunEntry[Field]> } & {
  number: number
  id: string
  experiment: string | null
  model: string
  queue_position: number | null
  owner: string | null
  wish: 'cancel' | 'pause' | null
  job: string | null
  attempts: number
  attempt_at: number | null
  archived_at: number | null
  /** Whether it waited in the queue when it was archived. */
  waited: number
  /** Whether the next attempt begins by forgetting the earlier ones. */
  start_over: number
  /** Whether the attempt was taken from the queue, not asked for by a command. */
  from_queue: number
  /** Whether the end of the program interrupted it, so that the next start takes it up. */
  cut_off: number
  /** How often in a row the program died while it ran. */
  crashes: number
  progress: string | null
  problem: string | null
  tags: string
  notes: string
}

type JoinedRow = RunRow & { model_name: string; experiment_name: string | null }

/** Columns that never change after the insert. */
type FixedColumn =
  | 'number'
  | 'id'
  | 'model'
  | 'method'
  | 'baseline'
  | 'seed'
  | 'nominal'
  | 'parent'
  | 'created_at'
  | 'attempt_at'
  | 'from_queue'

/** The columns that can be updated. Lists and objects are written as JSON. */
export type RunPatch = Partial<
  Omit<RunRow, FixedColumn | 'starred' | 'has_plan' | 'tags' | 'progress' | 'problem' | 'experiment' | 'job'>
> & {
  starred?: boolean
  has_plan?: boolean
  tags?: string[]
  progress?: Progress | null
  problem?: RunProblem | null
  experiment?: string
  job?: JobRecord | null
}

export function runsTable(db: Database) {
  const inspecting = db
    .prepare(
      `SELECT number FROM runs JOIN run_documents ON run = number JOIN json_each(request, '$.inspect.runs') wanted
       WHERE method IN ('divergence', 'generation') AND wanted.value = ? AND archived_at IS NULL ORDER BY created_at DESC, number DESC LIMIT 200`,
    )
    .pluck()
  const parameters = parametersTable(db)
  const measures = measuresTable(db)
  const insert = db.prepare(`
    INSERT INTO runs(id, name, status, experiment, model, method, baseline, seed, nominal, parent, executor, tags, notes, created_at)
    VALUES (@id, @name, @status, @experiment, @model, @method, @baseline, @seed, @nominal, @parent, @executor, @tags, @notes, @createdAt)`)
  const find = db.prepare('SELECT * FROM runs WHERE id = ?')
  const byNumber = db.prepare('SELECT * FROM runs WHERE number = ?')
  const ofExperiment = db.prepare('SELECT * FROM runs WHERE experiment = ? ORDER BY number')
  const joined = db.prepare(`
    SELECT r.*, m.name AS model_name, e.name AS experiment_name FROM json_each(?) wanted
    JOIN runs r ON r.number = wanted.value JOIN models m ON m.id = r.model LEFT JOIN experiments e ON e.id = r.experiment ORDER BY wanted.key`)
  const remove = db.prepare('DELETE FROM runs WHERE number = ?')
  const count = db.prepare('SELECT count(*) FROM runs').pluck()
  const problems = db.prepare('SELECT problem FROM runs WHERE problem IS NOT NULL ORDER BY number DESC LIMIT ?').pluck()
  const latestDone = db.prepare("SELECT * FROM runs WHERE model = ? AND status = 'done' ORDER BY number DESC LIMIT ?")
  const patches = new Map<string, Statement>()
  return {
    insert(run: NewRun): number {
      const number = Number(
        insert.run({ ...run, parameters: undefined, baseline: Number(run.baseline), tags: JSON.stringify(run.tags) }).lastInsertRowid,
      )
      parameters.replace(number, run.parameters)
      return number
    },
    find: (id: string) => find.get(id) as RunRow | undefined,
    byNumber: (number: number) => byNumber.get(number) as RunRow | undefined,
    /** Numbers of the inspections of a run, newest first. */
    inspecting: (id: string) => inspecting.all(id) as number[],
    ofExperiment: (experiment: string) => ofExperiment.all(experiment) as RunRow[],
    remove: (number: number) => remove.run(number),
    latestDone: (model: string, most: number) => latestDone.all(model, most) as RunRow[],
    count: () => count.get() as number,
    /** The problems of the latest failed runs, as JSON. */
    lastProblems: (most: number) => problems.all(most) as string[],
    setParameters: parameters.replace,
    patch(number: number, patch: RunPatch): void {
      const names = Object.keys(patch).filter((name) => patch[name as keyof RunPatch] !== undefined)
      if (names.length === 0) return
      const sql = `UPDATE runs SET ${names.map((name) => `${name} = ?`).join(', ')} WHERE number = ?`
      const statement = patches.get(sql) ?? db.prepare(sql)
      patches.set(sql, statement)
      statement.run(...names.map((name) => columnValue(patch[name as keyof RunPatch])), number)
    },
    /** Public entries in the order of `numbers`, with the parameters and measures that `keep` accepts. */
    entries(numbers: readonly number[], keep?: (field: string) => boolean): RunEntry[] {
      const given = parameters.ofRuns(numbers)
      const taken = measures.ofRuns(numbers)
      return (joined.all(JSON.stringify(numbers)) as JoinedRow[]).map((row) => {
        const entry = toEntry(row, given.get(row.number) ?? {})
        entry.measures = taken.get(row.number) ?? []
        return keep ? keepColumns(entry, keep) : entry
      })
    },
  }
}

function columnValue(value: RunPatch[keyof RunPatch]): string | number | null {
  if (typeof value === 'boolean') return Number(value)
  return value !== null && typeof value === 'object' ? JSON.stringify(value) : (value ?? null)
}

function keepColumns(entry: RunEntry, keep: (field: string) => boolean): RunEntry {
  return {
    ...entry,
    parameters: Object.fromEntries(Object.entries(entry.parameters).filter(([name]) => keep(`parameter:${name}`))),
    measures: entry.measures.filter(
      ({ name, dataset }) => keep(`measure:${name}`) || (dataset !== '' && keep(`measure:${name}/${dataset}`)),
    ),
  }
}

function toEntry(row: JoinedRow, parameters: Record<string, ParameterValue>): RunEntry {
  return {
    ...plainFields(row),
    id: row.id,
    experiment: row.experiment === null ? null : { id: row.experiment, name: row.experiment_name ?? row.experiment },
    model: { id: row.model, name: row.model_name },
    progress: parsed<Progress>(row.progress),
    problem: parsed<RunProblem>(row.problem),
    job: publicJob(row),
    archived: row.archived_at !== null,
    tags: JSON.parse(row.tags) as string[],
    parameters,
    measures: [],
  }
}

function plainFields(row: RunRow): Pick<RunEntry, RunField> {
  const entries = Object.entries(runFields).map(([field, { kind }]) => {
    const value = row[columnOf(field as RunField) as keyof RunRow]
    return [field, kind === 'boolean' ? value === 1 : value]
  })
  return Object.fromEntries(entries) as Pick<RunEntry, RunField>
}

function parsed<T>(text: string | null): T | null {
  return text === null ? null : (JSON.parse(text) as T)
}
