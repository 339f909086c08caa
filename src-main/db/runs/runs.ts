import type { ClusterJob } from '#contract/clusters/clusters.ts'
import { type GivenField, givenFields, type RunField, runFields } from '#contract/runs/run-fields.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { ParameterValue, RunEntry, RunProblem } from '#contract/runs/runs.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { fromJsonOrNull, Table } from '#db/sql-table.ts'
import { MeasuresTable } from './measures.ts'
import { ParametersTable } from './parameters.ts'
import { columnOf } from './run-filter.ts'

/** The fields of a new run; everything else is filled in later. */
type NewRun = Pick<RunEntry, GivenField | 'id' | 'tags' | 'parameters'> & { experiment: string | null; model: string; notes: string }

type SnakeCase<Name extends string> = Name extends `${infer First}${infer Rest}`
  ? `${First extends Uppercase<First> ? `_${Lowercase<First>}` : First}${SnakeCase<Rest>}`
  : ''

/** SQLite stores booleans as 0 and 1. */
type Stored<Value> = Value extends boolean ? number : Value

/** The scalar fields by column name. */
type FieldColumns = { [Field in RunField as SnakeCase<Field>]: RunEntry[Field] }

/** Columns that only the queue and the screens need. */
interface OtherColumns {
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
  /** Whether the run was waiting in the queue when it was archived. */
  waited: number
  /** Whether the next attempt first deletes the results of earlier ones. */
  start_over: number
  /** Whether the attempt came from the queue, not from a command. */
  from_queue: number
  /** Whether the run was interrupted when the program ended, so that the next start resumes it. */
  cut_off: number
  /** How many times in a row the program or its compute process died while it computed this run. */
  crashes: number
  progress: string | null
  problem: string | null
  tags: string
  notes: string
}

/** A row as the main process uses it. */
export type RunRow = { [Column in keyof FieldColumns]: Stored<FieldColumns[Column]> } & OtherColumns

type JoinedRow = RunRow & { model_name: string; experiment_name: string | null }

interface LineageRow {
  number: number
  model: string
  content: string | null
  depth: number
}

/** Columns that never change after the insert. */
type FixedColumn = 'number' | 'id' | 'model' | 'method' | 'baseline' | 'seed' | 'parent' | 'created_at' | 'attempt_at' | 'from_queue'

/** The columns that can be updated. Lists and objects are written as JSON. */
export type RunPatch = Partial<Omit<FieldColumns & OtherColumns, FixedColumn | 'tags' | 'progress' | 'problem' | 'experiment' | 'job'>> & {
  tags?: string[]
  progress?: Progress | null
  problem?: RunProblem | null
  experiment?: string
  job?: JobRecord | null
}

const newFields = ['id', 'experiment', 'model', 'tags', 'notes', ...givenFields]

export class RunsTable extends Table {
  readonly #parameters = new ParametersTable(this.db)
  readonly #measures = new MeasuresTable(this.db)
  readonly #insert: (run: Omit<NewRun, 'parameters'>) => number = this.one(`
    INSERT INTO runs(${newFields.map(columnOf).join(', ')}) VALUES (${newFields.map((field) => `@${field}`).join(', ')})
    RETURNING number`)
  readonly #joined: (numbers: readonly number[]) => JoinedRow[] = this.all(`
    SELECT r.*, m.name AS model_name, e.name AS experiment_name FROM json_each(?) wanted
    JOIN runs r ON r.number = wanted.value JOIN models m ON m.id = r.model LEFT JOIN experiments e ON e.id = r.experiment ORDER BY wanted.key`)
  /** The models of runs, of the runs that saved these models, and so on. The deepest of a run is its dense ancestor. */
  readonly #ancestors: (numbers: readonly number[]) => LineageRow[] = this.all(`
    WITH RECURSIVE up(number, model, content, depth) AS (
      SELECT r.number, r.model, r.fingerprint, 0 FROM json_each(?) wanted JOIN runs r ON r.number = wanted.value
      UNION ALL
      SELECT up.number, maker.model, maker.fingerprint, depth + 1 FROM up
      JOIN models m ON m.id = up.model JOIN runs maker ON maker.id = m.run WHERE depth < 100
    ) SELECT number, model, content, depth FROM up ORDER BY number, depth`)

  readonly find: (id: string) => RunRow | undefined = this.first('SELECT * FROM runs WHERE id = ?')
  readonly byNumber: (number: number) => RunRow | undefined = this.first('SELECT * FROM runs WHERE number = ?')
  /** Numbers of the inspections of a run, newest first. */
  readonly inspecting: (id: string) => number[] = this.all(
    `SELECT number FROM runs JOIN run_documents ON run = number JOIN json_each(request, '$.inspect.runs') wanted
     WHERE method IN ('divergence', 'generation') AND wanted.value = ? AND archived_at IS NULL ORDER BY created_at DESC, number DESC LIMIT 200`,
  )
  readonly ofExperiment: (experiment: string) => RunRow[] = this.all('SELECT * FROM runs WHERE experiment = ? ORDER BY number')
  readonly latestDone: (model: string, most: number) => RunRow[] = this.all(
    "SELECT * FROM runs WHERE model = ? AND status = 'done' ORDER BY number DESC LIMIT ?",
  )
  /** Runs whose plan is stored, newest first. */
  readonly planned: () => Pick<RunRow, 'id' | 'name' | 'created_at'>[] = this.all(
    'SELECT id, name, created_at FROM runs WHERE has_plan AND archived_at IS NULL ORDER BY created_at DESC, number DESC',
  )
  /** The problems of the latest runs that have one, as JSON. */
  readonly lastProblems: (most: number) => string[] = this.all(
    'SELECT problem FROM runs WHERE problem IS NOT NULL ORDER BY number DESC LIMIT ?',
  )
  readonly count: () => number = this.one('SELECT count(*) FROM runs')
  readonly remove: (number: number) => void = this.run('DELETE FROM runs WHERE number = ?')

  /** Throws if there is none. */
  get(id: string): RunRow {
    return this.known('run', id, this.find(id))
  }

  insert({ parameters, ...run }: NewRun): number {
    const number = this.#insert(run)
    this.setParameters(number, parameters)
    return number
  }

  setParameters(number: number, parameters: Record<string, ParameterValue>): void {
    this.#parameters.replace(number, parameters)
  }

  patch(number: number, patch: RunPatch): void {
    this.update('runs', 'number', number, patch)
  }

  /**
   * Returns public entries in the order of `numbers`, with the parameters and measures that `keep` accepts. With `details`, measures have
   * their losses by window and their answers.
   */
  entries(numbers: readonly number[], { keep, details = false }: { keep?: FieldFilter | undefined; details?: boolean } = {}): RunEntry[] {
    const parameters = this.#parameters.ofRuns(numbers)
    const measures = this.#measures.ofRuns(numbers, details)
    const ancestors = new Map(this.#ancestors(numbers).map((row) => [row.number, row]))
    return this.#joined(numbers).map((row) => {
      const { model = row.model, content = row.fingerprint, depth = 0 } = ancestors.get(row.number) ?? {}
      const entry = {
        ...toEntry(row),
        lineage: { model, content, pruned: depth > 0 },
        parameters: parameters.get(row.number) ?? {},
        measures: measures.get(row.number) ?? [],
      }
      return keep ? keepColumns(entry, keep) : entry
    })
  }
}

/** Whether a parameter or a measure, named as in filters, is wanted. */
type FieldFilter = (field: string) => boolean

function keepColumns(entry: RunEntry, keep: FieldFilter): RunEntry {
  return {
    ...entry,
    parameters: Object.fromEntries(Object.entries(entry.parameters).filter(([name]) => keep(`parameter:${name}`))),
    measures: entry.measures.filter(
      ({ name, dataset }) => keep(`measure:${name}`) || (dataset !== '' && keep(`measure:${name}/${dataset}`)),
    ),
  }
}

function toEntry(row: JoinedRow): Omit<RunEntry, 'parameters' | 'measures' | 'lineage'> {
  return {
    ...plainFields(row),
    id: row.id,
    experiment: row.experiment === null ? null : { id: row.experiment, name: row.experiment_name ?? row.experiment },
    model: { id: row.model, name: row.model_name },
    progress: fromJsonOrNull<Progress>(row.progress),
    problem: fromJsonOrNull<RunProblem>(row.problem),
    job: publicJob(row),
    archived: row.archived_at !== null,
    tags: JSON.parse(row.tags) as string[],
  }
}

function plainFields(row: RunRow): Pick<RunEntry, RunField> {
  const entries = Object.entries(runFields).map(([field, { kind }]) => {
    const value = row[columnOf(field) as keyof RunRow]
    return [field, kind === 'boolean' ? value === 1 : value]
  })
  return Object.fromEntries(entries) as Pick<RunEntry, RunField>
}

/** The stored state of a run on a cluster. */
export interface JobRecord extends ClusterJob {
  /** The submission that the run is part of; null after its job was cancelled or ended. `task` is its index in the submission. */
  submission: string | null
  task: number
  /** Whether to cancel the job although the run is waiting, because the run will start from scratch. */
  drop: boolean
  /** Consecutive submissions that ended before finishing a step. */
  idle: number
  /** Number of finished steps when the run was submitted. */
  steps: number
  /** The attempt that was read last, and how far its events and log were read. */
  read: { attempt: string; events: number; log: number }
}

/** Returns the stored job of a run; undefined if it has none. */
export function jobOf({ job }: { job: string | null }): JobRecord | undefined {
  return job === null ? undefined : (JSON.parse(job) as JobRecord)
}

/** Returns the public part of a job while the cluster has it, else null. */
export function publicJob(row: { job: string | null; status: RunStatus }): ClusterJob | null {
  const job = jobOf(row)
  if (!job || job.submission === null || (row.status !== 'queued' && row.status !== 'running')) return null
  const { id, state, node, reason } = job
  return { id, state, node, reason }
}
