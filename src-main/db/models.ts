import type { ModelDescription, ModelEntry, Transfer } from '#contract/models/models.ts'
import { fromJson, readRow, Table } from './sql-table.ts'

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
  SELECT m.*, (SELECT count(*) FROM runs r WHERE r.model = m.id AND r.method <> 'divergence') AS used_by_runs,
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
  /** The bundled model is the first, however late it was described. */
  readonly list: () => StoredModel[] = this.all(
    `${selected} WHERE m.removed_at IS NULL ORDER BY m.origin <> 'bundled', m.created_at, m.id`,
    readModel,
  )
  /** The names that a model at a path may not have. A removed model keeps its name if it has runs. */
  readonly namesBeside: (path: string) => string[] = this.all(`
    SELECT name FROM models WHERE path <> ? AND (removed_at IS NULL OR EXISTS (SELECT 1 FROM runs WHERE model = models.id))`)
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

interface StoredTransfer {
  transfer: Transfer
  request: unknown
}

/** Transfers, each with the request that can restart it. */
export class TransfersTable extends Table {
  readonly #save: (id: string, transfer: Transfer, request: string, owner: string | null, at: number) => void = this.run(
    'INSERT OR REPLACE INTO transfers(id, transfer, request, owner, changed_at) VALUES (?, ?, ?, ?, ?)',
  )
  /** Only the newest are listed. Older ones are kept if a request finds them: paused downloads, and what was saved from a run. */
  readonly #forgetOld: () => void = this.run(`
    DELETE FROM transfers WHERE transfer ->> 'status' IN ('done', 'failed', 'cancelled') AND id NOT IN (SELECT id FROM transfers ORDER BY changed_at DESC LIMIT 100)
      AND NOT (transfer ->> 'kind' = 'export' AND transfer ->> 'status' = 'done' AND coalesce(request ->> 'run', '') IN (SELECT id FROM runs))`)
  readonly #paused: (request: string, kind: Transfer['kind']) => string | undefined = this.first(
    "SELECT id FROM transfers WHERE request = ? AND transfer ->> 'kind' = ? AND transfer ->> 'status' = 'paused' ORDER BY changed_at DESC LIMIT 1",
  )

  readonly list: () => Transfer[] = this.all('SELECT transfer FROM transfers ORDER BY changed_at DESC LIMIT 100', fromJson<Transfer>)
  /** The finished exports of a run, newest first. */
  readonly exportsOf: (run: string) => Transfer[] = this.all(
    "SELECT transfer FROM transfers WHERE transfer ->> 'kind' = 'export' AND transfer ->> 'status' = 'done' AND request ->> 'run' = ? ORDER BY changed_at DESC",
    fromJson<Transfer>,
  )
  readonly find: (id: string) => StoredTransfer | undefined = this.first(
    'SELECT transfer, request FROM transfers WHERE id = ?',
    readTransfer,
  )
  /** Returns the unfinished transfers of dead processes. */
  readonly orphans: () => StoredTransfer[] = this.all(
    "SELECT transfer, request FROM transfers WHERE transfer ->> 'status' IN ('running', 'waiting') AND (owner IS NULL OR owner NOT IN (SELECT id FROM owners))",
    readTransfer,
  )

  save(transfer: Transfer, request: unknown, owner: string | null, at: number): void {
    this.#save(transfer.id, transfer, JSON.stringify(request), owner, at)
    if (transfer.status === 'done') this.#forgetOld()
  }

  /** Returns the id of the transfer for this request that was paused last. */
  paused(kind: Transfer['kind'], request: unknown): string | undefined {
    return this.#paused(JSON.stringify(request), kind)
  }
}

function readTransfer({ transfer, request }: { transfer: string; request: string }): StoredTransfer {
  return { transfer: JSON.parse(transfer) as Transfer, request: JSON.parse(request) }
}
