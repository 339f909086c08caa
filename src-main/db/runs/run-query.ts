import type { RunSelection } from '#contract/runs/bulk.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { RunFilter, RunPage, RunQuery } from '#contract/runs/runs.ts'
import type { Database, Statement } from '../database.ts'
import { orderOf, runSource, type Sql, selectionWhere, whereOf } from './run-filter.ts'
import type { RunRow, RunsTable } from './runs.ts'

/** Filters and sorts the history, and returns one page of it. */
export class RunQueries {
  readonly #db: Database
  readonly #runs: RunsTable
  readonly #prepared = new Map<string, Statement>()

  constructor(db: Database, runs: RunsTable) {
    this.#db = db
    this.#runs = runs
  }

  numbers(query: RunFilter & Pick<RunQuery, 'sort'>, limit: number, offset: number): number[] {
    const where = whereOf(query)
    const order = orderOf(query.sort)
    const text = `SELECT r.number ${runSource} WHERE ${where.text} ORDER BY ${order.text} LIMIT ? OFFSET ?`
    return this.#values(text, [...where.values, ...order.values, limit, offset])
  }

  page(query: RunQuery): RunPage {
    const where = whereOf(query)
    const text = `SELECT r.status AS status, count(*) AS runs, sum(r.method = 'divergence') AS analyses ${runSource} WHERE ${where.text} GROUP BY r.status`
    const counts = this.#prepare(text).all(...where.values) as { status: RunStatus; runs: number; analyses: number }[]
    const wanted = query.columns && new Set(query.columns)
    return {
      total: counts.reduce((sum, { runs }) => sum + runs, 0),
      offset: query.offset,
      rows: this.#runs.entries(this.numbers(query, query.limit, query.offset), {
        keep: wanted && ((field) => wanted.has(field)),
        details: query.details,
      }),
      counts: Object.fromEntries(counts.map(({ status, runs }) => [status, runs])),
      analyses: counts.reduce((sum, { analyses }) => sum + analyses, 0),
      archived: this.#count({ ...query, archived: 'only' }),
    }
  }

  #count(query: RunQuery): number {
    const where = whereOf(query)
    return (this.#prepare(`SELECT count(*) AS runs ${runSource} WHERE ${where.text}`).get(...where.values) as { runs: number }).runs
  }

  /** Returns the runs of a selection in the order in which they were created. */
  selected(selection: RunSelection): RunRow[] {
    const where = selectionWhere(selection)
    return this.#prepare(`SELECT r.* ${runSource} WHERE ${where.text} ORDER BY r.number`).all(...where.values) as RunRow[]
  }

  /** Counts the runs of a selection by status, separately for archived and other runs. */
  selectedCounts(selection: RunSelection): { status: RunStatus; archived: boolean; runs: number }[] {
    const where = selectionWhere(selection)
    const text = `SELECT r.status AS status, r.archived_at IS NOT NULL AS archived, count(*) AS runs ${runSource} WHERE ${where.text} GROUP BY 1, 2`
    const rows = this.#prepare(text).all(...where.values) as { status: RunStatus; archived: number; runs: number }[]
    return rows.map((row) => ({ ...row, archived: row.archived === 1 }))
  }

  selectedTags(selection: RunSelection): string[] {
    const where = selectionWhere(selection)
    const text = `SELECT DISTINCT tag FROM run_tags WHERE run IN (SELECT r.number ${runSource} WHERE ${where.text}) ORDER BY tag`
    return this.#values(text, where.values)
  }

  /** Returns the notes of a selection's runs, null if they differ, and how many of the runs have notes. */
  selectedNotes(selection: RunSelection): { notes: string | null; noted: number } {
    const where = selectionWhere(selection)
    const text = `SELECT r.notes AS notes, count(*) AS runs ${runSource} WHERE ${where.text} GROUP BY 1`
    const found = this.#prepare(text).all(...where.values) as { notes: string; runs: number }[]
    const noted = found.reduce((sum, { notes, runs }) => sum + (notes === '' ? 0 : runs), 0)
    return { notes: found.length > 1 ? null : (found[0]?.notes ?? ''), noted }
  }

  /** Returns the first ids of a selection, `limit` at most. */
  selectedIds(selection: RunSelection, limit: number): string[] {
    const where = selectionWhere(selection)
    return this.#values(`SELECT r.id ${runSource} WHERE ${where.text} ORDER BY r.number LIMIT ?`, [...where.values, limit])
  }

  #values<Value>(text: string, values: Sql['values']): Value[] {
    const statement = this.#prepare(text).pluck()
    return statement.all(...values) as Value[]
  }

  #prepare(text: string): Statement {
    const statement = this.#prepared.get(text) ?? this.#db.prepare(text)
    if (this.#prepared.size > 200) this.#prepared.clear()
    this.#prepared.set(text, statement)
    return statement
  }
}
