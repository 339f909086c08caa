import type { RunSelection } from '#contract/runs/bulk.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import type { RunFilter, RunPage, RunQuery } from '#contract/runs/runs.ts'
import type { Database, Statement } from '../database.ts'
import { orderOf, selectionWhere, whereOf } from './run-filter.ts'
import { runSource } from './run-sql.ts'
import type { RunRow, runsTable } from './runs.ts'

/** Filters and sorts the history, and returns one page of it. */
export function runQueries(db: Database, runs: ReturnType<typeof runsTable>) {
  const prepared = new Map<string, Statement>()
  const prepare = (text: string) => {
    const statement = prepared.get(text) ?? db.prepare(text)
    if (prepared.size > 200) prepared.clear()
    prepared.set(text, statement)
    return statement
  }

  function counts(filter: RunFilter): Partial<Record<RunStatus, number>> {
    const where = whereOf(filter)
    const rows = prepare(`SELECT r.status AS status, count(*) AS runs ${runSource} WHERE ${where.text} GROUP BY r.status`).all(
      ...where.values,
    )
    return Object.fromEntries((rows as { status: RunStatus; runs: number }[]).map(({ status, runs }) => [status, runs]))
  }

  function numbers(query: RunFilter & Pick<RunQuery, 'sort'>, limit: number, offset: number): number[] {
    const where = whereOf(query)
    const order = orderOf(query.sort)
    const statement = prepare(`SELECT r.number ${runSource} WHERE ${where.text} ORDER BY ${order.text} LIMIT ? OFFSET ?`)
    return statement.pluck().all(...where.values, ...order.values, limit, offset) as number[]
  }

  return {
    counts,
    numbers,
    /** The runs of a selection, in the order that they were made. */
    selected(selection: RunSelection): RunRow[] {
      const where = selectionWhere(selection)
      return prepare(`SELECT r.* ${runSource} WHERE ${where.text} ORDER BY r.number`).all(...where.values) as RunRow[]
    },
    /** How many runs of a selection have each status, in and out of the archive. */
    selectedCounts(selection: RunSelection): { status: RunStatus; archived: boolean; runs: number }[] {
      const where = selectionWhere(selection)
      const text = `SELECT r.status AS status, r.archived_at IS NOT NULL AS archived, count(*) AS runs ${runSource} WHERE ${where.text} GROUP BY 1, 2`
      const rows = prepare(text).all(...where.values) as { status: RunStatus; archived: number; runs: number }[]
      return rows.map((row) => ({ ...row, archived: row.archived === 1 }))
    },
    selectedTags(selection: RunSelection): string[] {
      const where = selectionWhere(selection)
      const text = `SELECT DISTINCT tag FROM run_tags WHERE run IN (SELECT r.number ${runSource} WHERE ${where.text}) ORDER BY tag`
      return prepare(text)
        .pluck()
        .all(...where.values) as string[]
    },
    /** The first ids of a selection. */
    selectedIds(selection: RunSelection, most: number): string[] {
      const where = selectionWhere(selection)
      return prepare(`SELECT r.id ${runSource} WHERE ${where.text} ORDER BY r.number LIMIT ?`)
        .pluck()
        .all(...where.values, most) as string[]
    },
    page(query: RunQuery): RunPage {
      const byStatus = counts(query)
      const wanted = query.columns && new Set(query.columns)
      const rows = runs.entries(numbers(query, query.limit, query.offset), wanted && ((field) => wanted.has(field)))
      return { total: Object.values(byStatus).reduce((sum, count) => sum + count, 0), offset: query.offset, rows, counts: byStatus }
    },
  }
}
