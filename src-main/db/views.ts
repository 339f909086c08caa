import type { SavedView } from '#contract/runs/runs.ts'
import type { Database } from './database.ts'

interface ViewRow {
  id: string
  name: string
  state: string
  created_at: number
}

/** Saved filters, columns and sort orders of the history, each with a unique name. */
export function viewsTable(db: Database) {
  const save = db.prepare(
    'INSERT INTO views(id, name, state, created_at) VALUES (?, ?, ?, ?) ON CONFLICT(name) DO UPDATE SET state = excluded.state RETURNING *',
  )
  const list = db.prepare('SELECT * FROM views ORDER BY name')
  const remove = db.prepare('DELETE FROM views WHERE id = ?')
  return {
    save: ({ id, name, state, createdAt }: SavedView) => toView(save.get(id, name, JSON.stringify(state), createdAt) as ViewRow),
    list: () => (list.all() as ViewRow[]).map(toView),
    remove: (id: string) => remove.run(id).changes === 1,
  }
}

function toView({ id, name, state, created_at }: ViewRow): SavedView {
  return { id, name, state: JSON.parse(state) as SavedView['state'], createdAt: created_at }
}
