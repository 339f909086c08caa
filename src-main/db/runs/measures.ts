import { isLowerBetter } from '#contract/comparison/comparison.ts'
import type { Measure } from '#contract/runs/measures.ts'
import type { MeasureSummary } from '#contract/runs/runs.ts'
import type { Database } from '../database.ts'

/** Results of runs: every value in `measures`; last and best also in `measure_summaries`, so that tables need no aggregate. */
export function measuresTable(db: Database) {
  const addName = db.prepare(
    'INSERT INTO measure_names(name, dataset, unit) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET unit = excluded.unit',
  )
  const nameId = db.prepare('SELECT id FROM measure_names WHERE name = ? AND dataset = ?').pluck()
  const next = db.prepare('SELECT coalesce(max(sequence), 0) + 1 FROM measures WHERE run = ? AND name = ?').pluck()
  const insert = db.prepare('INSERT INTO measures(run, name, sequence, value, error, at) VALUES (?, ?, ?, ?, ?, ?)')
  const lower = summaryStatement(db, 'min')
  const higher = summaryStatement(db, 'max')
  const clear = [db.prepare('DELETE FROM measures WHERE run = ?'), db.prepare('DELETE FROM measure_summaries WHERE run = ?')]
  const ofRuns = db.prepare(`
    SELECT s.run, n.name, n.dataset, n.unit, s.last AS value, s.best, s.error FROM json_each(?) wanted
    JOIN measure_summaries s ON s.run = wanted.value JOIN measure_names n ON n.id = s.name ORDER BY s.run, s.name`)
  return {
    add(run: number, measure: Measure, at: number): void {
      addName.run(measure.name, measure.dataset, measure.unit)
      const name = nameId.get(measure.name, measure.dataset)
      insert.run(run, name, next.get(run, name), measure.value, measure.error ?? null, at)
      const summary = isLowerBetter(measure.name) ? lower : higher
      summary.run(run, name, measure.value, measure.value, measure.error ?? null)
    },
    clear(run: number): void {
      for (const statement of clear) statement.run(run)
    },
    ofRuns(runs: readonly number[]): Map<number, MeasureSummary[]> {
      const found = new Map<number, MeasureSummary[]>()
      for (const row of ofRuns.iterate(JSON.stringify(runs)) as Iterable<MeasureSummary & { run: number; error: number | null }>) {
        const { run, error, ...summary } = row
        const measures = found.get(run) ?? []
        measures.push(error === null ? summary : { ...summary, error })
        found.set(run, measures)
      }
      return found
    },
  }
}

function summaryStatement(db: Database, best: 'min' | 'max') {
  return db.prepare(`
    INSERT INTO measure_summaries(run, name, last, best, error) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET last = excluded.last, best = ${best}(best, excluded.last), error = excluded.error`)
}
