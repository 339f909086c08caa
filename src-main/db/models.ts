import type { ModelDescription, ModelEntry } from '#contract/models/models.ts'
import { readRow, Table } from './table.ts'

/** A library entry without the fields that only the disk can tell. */
export type StoredModel = Omit<ModelEntry, 'present'> & { removedAt: number | null; removeFiles: boolean }
export type NewModel = Pick<
  ModelEntry,
  'id' | 'name' | 'path' | 'origin' | 'source' | 'description' | 'bytes' | 'parent' | 'run' | 'createdAt'
>
interface ModelPatch {
  name?: string | undefined
  notes?: string | undefined
  tags?: string[] | undefined
  starred?: boolean | undefined
  description?: ModelDescription | undefined
  bytes?: number | undefined
  beginFigures?: ModelEntry['beginFigures'] | undefined
}

const selected = `
  SELECT m.*, (SELECT count(*) FROM runs r WHERE r.model = m.id) AS used_by_runs,
    (SELECT json_object('method', r.method, 'reached', r.reached, 'perplexity', json((
      SELECT json_object('dataset', n.dataset, 'value', s.last) FROM measure_summaries s JOIN measure_names n ON n.id = s.name
      WHERE s.run = r.number AND n.name = 'perplexity' ORDER BY n.id LIMIT 1)),
      'weights', (SELECT json_extract(d.request, '$.weights') FROM run_documents d WHERE d.run = r.number))
    FROM runs r WHERE r.id = m.run) AS pruned
  FROM models m`

const readModel = readRow<StoredModel>({ json: ['description', 'beginFigures', 'tags', 'pruned'], flags: ['starred', 'removeFiles'] })

export class ModelsTable extends Table {
  readonly insert: (model: NewModel) => void = this.run(`
    INSERT INTO models(id, name, path, origin, source, description, bytes, parent, run, created_at)
    VALUES (@id, @name, @path, @origin, @source, @description, @bytes, @parent, @run, @createdAt)`)
  readonly find: (id: string) => StoredModel | undefined = this.first(`${selected} WHERE m.id = ?`, readModel)
  readonly atPath: (path: string) => StoredModel | undefined = this.first(
    `${selected} WHERE m.path = ? AND m.removed_at IS NULL`,
    readModel,
  )
  /** The number of models with this path, including removed models whose rows are kept. */
  readonly everAtPath: (path: string) => number = this.one('SELECT count(*) FROM models WHERE path = ?')
  readonly list: () => StoredModel[] = this.all(`${selected} WHERE m.removed_at IS NULL ORDER BY m.created_at, m.id`, readModel)
  readonly children: (id: string) => StoredModel[] = this.all(`${selected} WHERE m.parent = ? AND m.removed_at IS NULL`, readModel)
  readonly removedBefore: (moment: number) => StoredModel[] = this.all(`${selected} WHERE m.removed_at <= ?`, readModel)
  /** Deletes the row unless a run still refers to it. */
  readonly forget: (id: string) => number = this.run(
    "DELETE FROM models WHERE id = ? AND origin <> 'bundled' AND NOT EXISTS (SELECT 1 FROM runs WHERE model = models.id)",
  )

  setRemoved(id: string, moment: number | null, files: boolean): void {
    this.update('models', 'id', id, { removed_at: moment, remove_files: files })
  }

  patch(id: string, { beginFigures, ...patch }: ModelPatch): void {
    this.update('models', 'id', id, { ...patch, begin_figures: beginFigures })
  }
}
