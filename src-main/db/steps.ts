import type { Database } from './database.ts'
import type { ValueStore } from './values.ts'

/** Results of finished steps. `scope` is a run, or an experiment's model for what its runs share. */
export function stepsTable(db: Database, values: ValueStore) {
  const find = db.prepare('SELECT value, file FROM steps WHERE scope = ? AND name = ?')
  const insert = db.prepare('INSERT OR REPLACE INTO steps(scope, name, value, file, bytes, at) VALUES (?, ?, ?, ?, ?, ?)')
  const clear = db.prepare('DELETE FROM steps WHERE scope = ?')
  const clearExperiment = db.prepare("DELETE FROM steps WHERE scope LIKE ? || '/%'")
  const count = db.prepare('SELECT count(*) FROM steps WHERE scope = ?').pluck()
  const bytes = db.prepare('SELECT coalesce(sum(bytes), 0) FROM steps WHERE scope IN (SELECT value FROM json_each(?))').pluck()
  const ofScope = db.prepare('SELECT name, value, file FROM steps WHERE scope = ? ORDER BY at, name')
  return {
    get(scope: string, name: string): { value: unknown } | undefined {
      const row = find.get(scope, name) as { value: string | null; file: string | null } | undefined
      return row && { value: values.get(row) }
    },
    put(scope: string, name: string, value: unknown, at: number): void {
      const stored = values.put(value)
      insert.run(scope, name, stored.value, stored.file, stored.bytes, at)
    },
    /** What the runs of an experiment shared. */
    clearExperiment: (experiment: string) => clearExperiment.run(experiment).changes,
    clear: (scope: string) => clear.run(scope).changes,
    count: (scope: string) => count.get(scope) as number,
    bytes: (scopes: readonly string[]) => bytes.get(JSON.stringify(scopes)) as number,
    ofScope: (scope: string) =>
      (ofScope.all(scope) as { name: string; value: string | null; file: string | null }[]).map((row) => ({
        name: row.name,
        value: values.get(row),
      })),
  }
}
