import type { RunStatus } from '#contract/runs/run-status.ts'
import type { RunFilter, RunPage, RunQuery } from '#contract/runs/runs.ts'
import type { Database, Statement } from '../database.ts'
import { orderOf, whereOf } from './run-filter.ts'
import { runSource } from './run-sql.ts'
import type { runsTable } from './runs.ts'

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
    page(query: RunQuery): RunPage {
      const byStatus = counts(query)
      const wanted = query.columns && new Set(query.columns)
      const rows = runs.entries(numbers(query, query.limit, query.offset), wanted && ((field) => wanted.has(field)))
      return { total: Object.values(byStatus).reduce((sum, count) => sum + count, 0), offset: query.offset, rows, counts: byStatus }
    },
  }
}
