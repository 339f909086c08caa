import type { ModelDescription, ModelEntry } from '#contract/models/models.ts'
import type { Database, Statement } from './database.ts'

interface ModelRow {
  id: string
  name: string
  path: string
  origin: ModelEntry['origin']
  source: string | null
  description: string
  bytes: number
  parent: string | null
  run: string | null
  tags: string
  starred: number
  created_at: number
  removed_at: number | null
  remove_files: number
  notes: string
  used_by: number
  pruned: string | null
}

/** A library entry without the fields that only the disk knows. */
export type StoredModel = Omit<ModelEntry, 'present'> & { removedAt: number | null; removeFiles: boolean }
export type NewModel = Pick<
  ModelEntry,
  'id' | 'name' | 'path' | 'origin' | 'source' | 'description' | 'bytes' | 'parent' | 'run' | 'createdAt'
>
export interface ModelPatch {
  name?: string | undefined
  notes?: string | undefined
  tags?: string[] | undefined
  starred?: boolean | undefined
  description?: ModelDescription | undefined
  bytes?: number | undefined
}

const selected = `
  SELECT m.*, (SELECT count(*) FROM runs r WHERE r.model = m.id) AS used_by,
    (SELECT json_object('method', r.method, 'reached', r.reached, 'perplexity', json((
      SELECT json_object('dataset', n.dataset, 'value', s.last) FROM measure_summaries s JOIN measure_names n ON n.id = s.name
      WHERE s.run = r.number AND n.name = 'perplexity' ORDER BY n.id LIMIT 1)))
    FROM runs r WHERE r.id = m.run) AS pruned
  FROM models m`

export function modelsTable(db: Database) {
  const insert = db.prepare(`
    INSERT INTO models(id, name, path, origin, source, description, bytes, parent, run, created_at)
    VALUES (@id, @name, @path, @origin, @source, @description, @bytes, @parent, @run, @createdAt)`)
  const find = db.prepare(`${selected} WHERE m.id = ?`)
  const present = db.prepare(`${selected} WHERE m.removed_at IS NULL ORDER BY m.created_at, m.id`)
  const removed = db.prepare(`${selected} WHERE m.removed_at IS NOT NULL AND m.removed_at <= ?`)
  const atPath = db.prepare(`${selected} WHERE m.path = ? AND m.removed_at IS NULL`)
  const everAtPath = db.prepare('SELECT count(*) FROM models WHERE path = ?').pluck()
  const children = db.prepare(`${selected} WHERE m.parent = ? AND m.removed_at IS NULL`)
  const markRemoved = db.prepare('UPDATE models SET removed_at = ?, remove_files = ? WHERE id = ?')
  const forget = db.prepare(
    "DELETE FROM models WHERE id = ? AND origin <> 'bundled' AND NOT EXISTS (SELECT 1 FROM runs WHERE model = models.id)",
  )
  const all = (statement: Statement, ...values: (string | number)[]) => (statement.all(...values) as ModelRow[]).map(toModel)
  const one = (statement: Statement, value: string) => {
    const row = statement.get(value) as ModelRow | undefined
    return row && toModel(row)
  }
  return {
    insert: (model: NewModel) => insert.run({ ...model, description: JSON.stringify(model.description) }),
    find: (id: string) => one(find, id),
    atPath: (path: string) => one(atPath, path),
    /** Includes removed models whose rows are kept. */
    everAtPath: (path: string) => (everAtPath.get(path) as number) > 0,
    list: () => all(present),
    children: (id: string) => all(children, id),
    removedBefore: (moment: number) => all(removed, moment),
    setRemoved: (id: string, moment: number | null, files: boolean) => markRemoved.run(moment, Number(files), id),
    /** Deletes the row unless a run still refers to it. */
    forget: (id: string) => forget.run(id).changes === 1,
    patch(id: string, { name, notes, tags, starred, description, bytes }: ModelPatch): void {
      const values = {
        name,
        notes,
        tags: tags && JSON.stringify(tags),
        starred: starred === undefined ? undefined : Number(starred),
        description: description && JSON.stringify(description),
        bytes,
      }
      for (const [column, value] of Object.entries(values)) {
        if (value !== undefined) db.prepare(`UPDATE models SET ${column} = ? WHERE id = ?`).run(value, id)
      }
    },
  }
}

function toModel(row: ModelRow): StoredModel {
  return {
    id: row.id,
    name: row.name,
    path: row.path,
    origin: row.origin,
    source: row.source,
    description: JSON.parse(row.description) as ModelDescription,
    bytes: row.bytes,
    parent: row.parent,
    run: row.run,
    pruned: row.pruned === null ? null : (JSON.parse(row.pruned) as ModelEntry['pruned']),
    usedByRuns: row.used_by,
    notes: row.notes,
    tags: JSON.parse(row.tags) as string[],
    starred: row.starred === 1,
    createdAt: row.created_at,
    removedAt: row.removed_at,
    removeFiles: row.remove_files === 1,
  }
}
