import type { SavedView } from '#contract/runs/runs.ts'
import { readRow, Table } from './table.ts'

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
