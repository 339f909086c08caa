import { existsSync } from 'node:fs'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { labelOfStep } from '#contract/runs/step-names.ts'
import type { Database } from '../database.ts'
import type { ValueStore } from '../values.ts'

interface StepRow {
  value: string | null
  file: string | null
  tensors: string | null
}

/** Results of finished steps. Equal names mean equal results, so a run may reuse another's step. */
export function stepsTable(db: Database, values: ValueStore) {
  const find = db.prepare('SELECT value, file, tensors FROM steps WHERE run = ? AND name = ?')
  const insert = db.prepare('INSERT OR REPLACE INTO steps(run, name, value, file, bytes, at, tensors) VALUES (?, ?, ?, ?, ?, ?, ?)')
  const clear = db.prepare('DELETE FROM steps WHERE run = ?')
  const elsewhere = db.prepare('SELECT value, file, tensors FROM steps WHERE name = ? LIMIT 1')
  const adopt = db.prepare(`
    INSERT OR REPLACE INTO steps(run, name, value, file, bytes, at, tensors)
    SELECT ?, name, value, file, bytes, at, tensors FROM steps WHERE name = ? LIMIT 1`)
  const count = db.prepare('SELECT count(*) FROM steps WHERE run = ?').pluck()
  const bytes = db.prepare('SELECT coalesce(sum(bytes), 0) FROM steps WHERE run IN (SELECT value FROM json_each(?))').pluck()
  const files = db
    .prepare(
      `SELECT file FROM steps WHERE run IN (SELECT value FROM json_each(@runs)) AND file IS NOT NULL
       UNION SELECT tensors ->> '$.file' FROM steps WHERE run IN (SELECT value FROM json_each(@runs)) AND tensors IS NOT NULL`,
    )
    .pluck()
  const names = db.prepare('SELECT name FROM steps WHERE run = ?').pluck()
  const ofScope = db.prepare('SELECT name, value, file FROM steps WHERE run = ? ORDER BY at, name')
  const read = (row: StepRow): { value: unknown; tensors?: TensorFile } => {
    const tensors = row.tensors === null ? {} : { tensors: values.placeTensors(JSON.parse(row.tensors) as TensorFile) }
    return { value: values.get(row), ...tensors }
  }
  /** Undefined if one of its files is missing or damaged; then it is recomputed. */
  const whole = (row: StepRow): { value: unknown; tensors?: TensorFile } | undefined => {
    try {
      const step = read(row)
      return step.tensors === undefined || existsSync(step.tensors.file) ? step : undefined
    } catch {
      return undefined
    }
  }
  return {
    get(run: string, name: string): { value: unknown; tensors?: TensorFile } | undefined {
      const row = find.get(run, name) as StepRow | undefined
      return row && read(row)
    },
    /** Finds a step by name, whichever run computed it. */
    find(name: string): { value: unknown; tensors?: TensorFile } | undefined {
      const row = elsewhere.get(name) as StepRow | undefined
      return row && whole(row)
    },
    /** Finds a step by name and copies it to this run, so that it survives the deletion of the other run. */
    takeOver(run: string, name: string): { value: unknown; tensors?: TensorFile } | undefined {
      const step = this.find(name)
      if (step) adopt.run(run, name)
      return step
    },
    /** `tensors` must already be in the tensor folder. */
    put(run: string, name: string, value: unknown, at: number, tensors?: TensorFile): void {
      const stored = values.put(value)
      const file = tensors === undefined ? null : JSON.stringify(values.nameTensors(tensors))
      insert.run(run, name, stored.value, stored.file, stored.bytes + (tensors?.bytes ?? 0), at, file)
    },
    clear: (run: string) => clear.run(run).changes,
    /** Names of these runs' tensor files. */
    files: (runs: readonly string[]) => files.all({ runs: JSON.stringify(runs) }) as string[],
    /** The name of a run's step with this label. */
    named: (run: string, label: string) => (names.all(run) as string[]).find((name) => labelOfStep(name) === label),
    names: (run: string) => names.all(run) as string[],
    count: (run: string) => count.get(run) as number,
    bytes: (runs: readonly string[]) => bytes.get(JSON.stringify(runs)) as number,
    ofScope: (run: string) =>
      (ofScope.all(run) as { name: string; value: string | null; file: string | null }[]).map((row) => ({
        name: row.name,
        value: values.get(row),
      })),
  }
}
