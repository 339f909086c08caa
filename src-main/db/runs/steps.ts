import type { TensorFile } from '#contract/pruning/plan.ts'
import type { Database } from '../database.ts'
import type { ValueStore } from '../values.ts'

/** Results of finished steps. `scope` is a run, or an experiment's model for what its runs share. */
export function stepsTable(db: Database, values: ValueStore) {
  const find = db.prepare('SELECT value, file, tensors FROM steps WHERE scope = ? AND name = ?')
  const insert = db.prepare('INSERT OR REPLACE INTO steps(scope, name, value, file, bytes, at, tensors) VALUES (?, ?, ?, ?, ?, ?, ?)')
  const clear = db.prepare('DELETE FROM steps WHERE scope = ?')
  const clearExperiment = db.prepare("DELETE FROM steps WHERE scope LIKE ? || '/%'")
  const count = db.prepare('SELECT count(*) FROM steps WHERE scope = ?').pluck()
  const bytes = db.prepare('SELECT coalesce(sum(bytes), 0) FROM steps WHERE scope IN (SELECT value FROM json_each(?))').pluck()
  const files = db
    .prepare(
      `SELECT file FROM steps WHERE scope IN (SELECT value FROM json_each(@scopes)) AND file IS NOT NULL
       UNION SELECT tensors ->> '$.file' FROM steps WHERE scope IN (SELECT value FROM json_each(@scopes)) AND tensors IS NOT NULL`,
    )
    .pluck()
  const names = db.prepare('SELECT name FROM steps WHERE scope = ?').pluck()
  const ofScope = db.prepare('SELECT name, value, file FROM steps WHERE scope = ? ORDER BY at, name')
  return {
    get(scope: string, name: string): { value: unknown; tensors?: TensorFile } | undefined {
      const row = find.get(scope, name) as { value: string | null; file: string | null; tensors: string | null } | undefined
      if (!row) return undefined
      const tensors = row.tensors === null ? {} : { tensors: values.placeTensors(JSON.parse(row.tensors) as TensorFile) }
      return { value: values.get(row), ...tensors }
    },
    /** `tensors` is a file that stands in the tensor folder already. */
    put(scope: string, name: string, value: unknown, at: number, tensors?: TensorFile): void {
      const stored = values.put(value)
      const file = tensors === undefined ? null : JSON.stringify(values.nameTensors(tensors))
      insert.run(scope, name, stored.value, stored.file, stored.bytes + (tensors?.bytes ?? 0), at, file)
    },
    /** What the runs of an experiment shared. */
    clearExperiment: (experiment: string) => clearExperiment.run(experiment).changes,
    clear: (scope: string) => clear.run(scope).changes,
    /** Names of the files that steps of these scopes have. */
    files: (scopes: readonly string[]) => files.all({ scopes: JSON.stringify(scopes) }) as string[],
    names: (scope: string) => names.all(scope) as string[],
    count: (scope: string) => count.get(scope) as number,
    bytes: (scopes: readonly string[]) => bytes.get(JSON.stringify(scopes)) as number,
    ofScope: (scope: string) =>
      (ofScope.all(scope) as { name: string; value: string | null; file: string | null }[]).map((row) => ({
        name: row.name,
        value: values.get(row),
      })),
  }
}
