import { existsSync } from 'node:fs'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { labelOfStep } from '#contract/runs/step-names.ts'
import { fromJson, Table } from '#db/sql-table.ts'
import { type Database, immediately } from '../database.ts'
import type { ValueStore } from '../values.ts'

interface StepRow {
  value: string | null
  file: string | null
  tensors: string | null
}

interface Step {
  value: unknown
  tensors?: TensorFile
}

/** Unlike `INSERT OR REPLACE`, this lets the triggers record the files that the replaced step named. */
const replacing =
  'ON CONFLICT(run, name) DO UPDATE SET value = excluded.value, file = excluded.file, bytes = excluded.bytes, at = excluded.at, tensors = excluded.tensors'

/** Results of finished steps. Equal names mean equal results, so a run may reuse another's step. */
export class StepsTable extends Table {
  readonly #values: ValueStore
  readonly #find: (run: string, name: string) => StepRow | undefined = this.first(
    'SELECT value, file, tensors FROM steps WHERE run = ? AND name = ?',
  )
  readonly #elsewhere: (name: string) => StepRow | undefined = this.first('SELECT value, file, tensors FROM steps WHERE name = ? LIMIT 1')
  readonly #insert: (step: StepRow & { run: string; name: string; bytes: number; at: number }) => void = this.run(
    `INSERT INTO steps(run, name, value, file, bytes, at, tensors) VALUES (@run, @name, @value, @file, @bytes, @at, @tensors) ${replacing}`,
  )
  readonly #adopt: (run: string, name: string) => void = this.run(`
    INSERT INTO steps(run, name, value, file, bytes, at, tensors)
    SELECT * FROM (SELECT ?, name, value, file, bytes, at, tensors FROM steps WHERE name = ? LIMIT 1) WHERE true ${replacing}`)
  readonly count: (run: string) => number = this.one('SELECT count(*) FROM steps WHERE run = ?')
  readonly bytes: (runs: readonly string[]) => number = this.one(
    'SELECT coalesce(sum(bytes), 0) FROM steps WHERE run IN (SELECT value FROM json_each(?))',
  )

  /** The bytes that the largest of the latest finished runs has stored. */
  readonly largestOfLatest: () => number = this.one(
    `SELECT coalesce(max(bytes), 0) FROM (SELECT sum(bytes) AS bytes FROM steps
     WHERE run IN (SELECT id FROM runs WHERE status = 'done' ORDER BY number DESC LIMIT 5) GROUP BY run)`,
  )

  readonly clear: (run: string) => number = this.run('DELETE FROM steps WHERE run = ?')
  readonly names: (run: string) => string[] = this.all('SELECT name FROM steps WHERE run = ?')
  readonly ofScope: (run: string) => { name: string; value: unknown }[] = this.all(
    'SELECT name, value, file FROM steps WHERE run = ? ORDER BY at, name',
    ({ name, ...row }: Omit<StepRow, 'tensors'> & { name: string }) => ({ name, value: this.#values.get(row) }),
  )

  constructor(db: Database, values: ValueStore) {
    super(db)
    this.#values = values
  }

  get(run: string, name: string): Step | undefined {
    const row = this.#find(run, name)
    return row && this.#read(row)
  }

  /** Finds a step by name in any run. Returns undefined if one of its files is missing or damaged, so that the step is computed again. */
  find(name: string): Step | undefined {
    const row = this.#elsewhere(name)
    try {
      const step = row && this.#read(row)
      return step?.tensors === undefined || existsSync(step.tensors.file) ? step : undefined
    } catch {
      return undefined
    }
  }

  /** Finds a step by name and copies it to this run, so that it survives the deletion of the other run. */
  takeOver(run: string, name: string): Step | undefined {
    const step = this.find(name)
    if (step) this.#adopt(run, name)
    return step
  }

  /** Stores a step. The file of `tensors` must already be in the tensor folder. */
  put(run: string, name: string, value: unknown, at: number, tensors?: TensorFile): void {
    const stored = this.#values.put(value)
    const file = tensors === undefined ? null : JSON.stringify(this.#values.nameTensors(tensors))
    immediately(this.db, () => {
      this.#insert({ run, name, ...stored, bytes: stored.bytes + (tensors?.bytes ?? 0), at, tensors: file })
      // Another process may have swept an equal, released file since. While this transaction is open, none can.
      this.#values.put(value)
    })
  }

  /** Returns the name of a run's step with this label. */
  named(run: string, label: string): string | undefined {
    return this.names(run).find((name) => labelOfStep(name) === label)
  }

  #read(row: StepRow): Step {
    const tensors = row.tensors === null ? {} : { tensors: this.#values.placeTensors(fromJson(row.tensors)) }
    return { value: this.#values.get(row), ...tensors }
  }
}
