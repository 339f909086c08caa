import { fromJson, Table } from '../table.ts'
import type { RunRow } from './runs.ts'

const keptMilliseconds = 86_400_000

/** What a bulk action changed: enough to restore it. */
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
  /** The experiment that was archived or restored with its runs. */
  experiment: { id: string; archivedAt: number | null } | null
}

/** Actions that can be undone, for a day. */
export class UndosTable extends Table {
  readonly #insert: (id: string, at: number, change: RunsChange) => void = this.run('INSERT INTO undos(id, at, change) VALUES (?, ?, ?)')
  readonly #expire: (before: number) => void = this.run('DELETE FROM undos WHERE at < ?')

  /** Each is undone once. */
  readonly take: (id: string) => RunsChange | undefined = this.first(
    'DELETE FROM undos WHERE id = ? RETURNING change',
    fromJson<RunsChange>,
  )

  insert(id: string, change: RunsChange, now: number): void {
    this.#expire(now - keptMilliseconds)
    this.#insert(id, now, change)
  }
}
