import type { Database } from '../database.ts'
import type { RunRow } from './runs.ts'

const keptMilliseconds = 86_400_000

/** What an action on several runs changed: enough to put all of it back. */
export interface RunsChange {
  kind: string
  /** Numbers of the runs that waited before, in their order. */
  order: number[]
  rows: Pick<
    RunRow,
    | 'number'
    | 'status'
    | 'archived_at'
    | 'waited'
    | 'start_over'
    | 'cut_off'
    | 'crashes'
    | 'problem'
    | 'ended_at'
    | 'tags'
    | 'starred'
    | 'notes'
  >[]
  /** The experiment that was archived or brought back with its runs. */
  experiment: { id: string; archivedAt: number | null } | null
}

/** Actions that can be undone, for a day. */
export function undosTable(db: Database) {
  const insert = db.prepare('INSERT INTO undos(id, at, change) VALUES (?, ?, ?)')
  const expire = db.prepare('DELETE FROM undos WHERE at < ?')
  const take = db.prepare('DELETE FROM undos WHERE id = ? RETURNING change').pluck()
  return {
    insert(id: string, change: RunsChange, now: number): void {
      expire.run(now - keptMilliseconds)
      insert.run(id, now, JSON.stringify(change))
    },
    /** Each is undone once. */
    take(id: string): RunsChange | undefined {
      const text = take.get(id) as string | undefined
      return text === undefined ? undefined : (JSON.parse(text) as RunsChange)
    },
  }
}
