import { measureTitle, subjectTitle } from '#contract/comparison/measure-columns.ts'
import { linkedFields, runFields } from '#contract/runs/run-fields.ts'
import type { ParameterValue, RunColumn, RunFilter } from '#contract/runs/runs.ts'
import type { Database } from '../database.ts'
import { comparable, runSource, type Sql, whereOf } from './run-filter.ts'

/** A filter lists up to this many values. If there are more, the user types one. */
const mostValues = 50

interface Range {
  runs: number
  minimum: number | null
  maximum: number | null
}

const ownColumns: Pick<RunColumn, 'field' | 'label' | 'kind' | 'unit'>[] = [
  ...Object.entries(runFields).flatMap(([field, { label, kind, unit, offered }]) =>
    offered ? [{ field, label, kind, ...(unit ? { unit } : {}) }] : [],
  ),
  ...Object.entries(linkedFields).map(([field, label]) => ({ field, label, kind: 'text' as const })),
]

/** Returns the columns of the filtered runs, with their ranges and values. */
export function runColumns(db: Database, filter: RunFilter): RunColumn[] {
  const where = whereOf(filter)
  const isUnfiltered = filter.search === '' && filter.conditions.length === 0 && filter.experiment === undefined
  // Without a filter, use the ranges of all runs, including archived ones. This avoids looking up each row.
  const chosen = isUnfiltered
    ? { text: '1', values: [] }
    : { text: `run IN (SELECT r.number ${runSource} WHERE ${where.text})`, values: where.values }
  return [...rowColumns(db, where), tagColumn(db, chosen), ...parameterColumns(db, chosen), ...measureColumns(db, chosen)]
}

function rowColumns(db: Database, where: Sql): RunColumn[] {
  const ranges = ownColumns.map(({ field }, index) => {
    const sql = comparable[field]
    return `count(${sql}) AS runs${index}, min(${sql}) AS minimum${index}, max(${sql}) AS maximum${index}`
  })
  const row = db.prepare(`SELECT ${ranges.join(', ')} ${runSource} WHERE ${where.text}`).get(...where.values) as Record<
    string,
    number | null
  >
  return ownColumns.map(({ field, label, kind, unit }, index) => {
    const sql = comparable[field]
    const distinct = `SELECT DISTINCT ${sql} ${runSource} WHERE ${where.text} AND ${sql} IS NOT NULL LIMIT ${mostValues + 1}`
    const values =
      kind === 'text' && field !== 'name'
        ? (db
            .prepare(distinct)
            .pluck()
            .all(...where.values) as string[])
        : undefined
    const range = { runs: row[`runs${index}`] ?? 0, minimum: row[`minimum${index}`] ?? null, maximum: row[`maximum${index}`] ?? null }
    return { ...column(field, label, kind, range, values), ...(unit ? { unit } : {}) }
  })
}

function tagColumn(db: Database, chosen: Sql): RunColumn {
  const found = db
    .prepare(`SELECT tag, count(*) AS runs FROM run_tags WHERE ${chosen.text} GROUP BY tag ORDER BY runs DESC LIMIT 1000`)
    .all(...chosen.values) as { tag: string; runs: number }[]
  return {
    field: 'tag',
    label: 'Tags',
    kind: 'tags',
    runs: found.reduce((sum, { runs }) => sum + runs, 0),
    values: found.map(({ tag }) => tag),
  }
}

function parameterColumns(db: Database, chosen: Sql): RunColumn[] {
  const rows = db
    .prepare(`
      SELECT n.id, n.name, p.* FROM parameter_names n JOIN (
        SELECT name AS of, min(kind) AS kind, max(kind) AS other, count(*) AS runs, min(value) AS minimum, max(value) AS maximum
        FROM parameters WHERE ${chosen.text} GROUP BY name) p ON p.of = n.id ORDER BY n.name`)
    .all(...chosen.values) as (Range & { id: number; name: string; kind: 'number' | 'text' | 'boolean'; other: string })[]
  const distinct = db.prepare('SELECT DISTINCT value FROM parameters WHERE name = ? ORDER BY value LIMIT ?').pluck()
  return rows.map((row) => {
    const found = distinct.all(row.id, mostValues + 1) as ParameterValue[]
    return column(
      `parameter:${row.name}`,
      row.name,
      row.other !== row.kind ? 'text' : row.kind,
      row,
      row.kind === 'boolean' ? undefined : found,
    )
  })
}

function measureColumns(db: Database, chosen: Sql): RunColumn[] {
  const rows = db
    .prepare(`
      SELECT n.name, n.dataset, n.unit, s.* FROM measure_names n JOIN (
        SELECT name AS of, count(*) AS runs, min(last) AS minimum, max(last) AS maximum
        FROM measure_summaries WHERE ${chosen.text} GROUP BY name) s ON s.of = n.id ORDER BY n.name, n.dataset`)
    .all(...chosen.values) as (Range & { name: string; dataset: string; unit: string })[]
  return rows.map((row) => {
    const id = row.dataset ? `${row.name}/${row.dataset}` : row.name
    return {
      ...column(`measure:${id}`, row.dataset ? `${measureTitle(row)} (${subjectTitle(row.dataset)})` : measureTitle(row), 'number', row),
      unit: row.unit,
    }
  })
}

function column(
  field: string,
  label: string,
  kind: RunColumn['kind'],
  { runs, minimum, maximum }: Range,
  values?: ParameterValue[],
): RunColumn {
  const ranged = kind === 'number' || kind === 'moment'
  return {
    field,
    label,
    kind,
    runs,
    ...(ranged && minimum !== null && maximum !== null ? { minimum, maximum } : {}),
    ...(values && values.length <= mostValues ? { values } : {}),
  }
}
