import { fromJson, Table } from '#db/sql-table.ts'
import type { RunRow } from './runs.ts'

const keptMilliseconds = 86_400_000

/** The state that a bulk action changed, as it was before. */
export interface RunsChange {
  kind: string
  /** Numbers of the runs that were waiting before, in queue order. */
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
  /** The experiment that was archived or restored with its runs. */
  experiment: { id: string; archivedAt: number | null } | null
}

/** Bulk actions that can be undone. Each is kept for a day. */
export class UndosTable extends Table {
  readonly #insert: (id: string, at: number, change: RunsChange) => void = this.run('INSERT INTO undos(id, at, change) VALUES (?, ?, ?)')
  readonly #expire: (before: number) => void = this.run('DELETE FROM undos WHERE at < ?')

  /** Removes a change and returns it, because an action can be undone only once. */
  readonly take: (id: string) => RunsChange | undefined = this.first(
    'DELETE FROM undos WHERE id = ? RETURNING change',
    fromJson<RunsChange>,
  )

  insert(id: string, change: RunsChange, now: number): void {
    this.#expire(now - keptMilliseconds)
    this.#insert(id, now, change)
  }
}
