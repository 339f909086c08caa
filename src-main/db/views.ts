import type { SavedView } from '#contract/runs/runs.ts'
import { Table } from './table.ts'

interface ViewRow {
  id: string
  name: string
  state: string
  created_at: number
}

/** Saved filters, columns and sort orders of the history, each with a unique name. */
export class ViewsTable extends Table {
  readonly save: (view: SavedView) => SavedView = this.one(
    `INSERT INTO views(id, name, state, created_at) VALUES (@id, @name, @state, @createdAt)
     ON CONFLICT(name) DO UPDATE SET state = excluded.state RETURNING *`,
    toView,
  )
  readonly list: () => SavedView[] = this.all('SELECT * FROM views ORDER BY name', toView)
  readonly remove: (id: string) => number = this.run('DELETE FROM views WHERE id = ?')
}

function toView({ id, name, state, created_at }: ViewRow): SavedView {
  return { id, name, state: JSON.parse(state) as SavedView['state'], createdAt: created_at }
}
