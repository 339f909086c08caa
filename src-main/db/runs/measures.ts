import { isLowerBetter, type Measure } from '#contract/runs/measures.ts'
import type { MeasureSummary } from '#contract/runs/runs.ts'
import { Table } from '../table.ts'

/** Results of runs. `measures` has every value, and `measure_summaries` the last and the best, so that tables need no aggregate. */
export class MeasuresTable extends Table {
  readonly #nameId: (measure: Measure) => number = this.one(`
    INSERT INTO measure_names(name, dataset, unit) VALUES (@name, @dataset, @unit) ON CONFLICT DO UPDATE SET unit = excluded.unit RETURNING id`)
  readonly #insert: (measure: MeasureRow) => void = this.run(`
    INSERT INTO measures(run, name, sequence, value, error, at)
    VALUES (@run, @name, (SELECT coalesce(max(sequence), 0) + 1 FROM measures WHERE run = @run AND name = @name), @value, @error, @at)`)
  readonly #lower = this.#summary('min')
  readonly #higher = this.#summary('max')
  readonly #clear: (run: number) => void = this.run('DELETE FROM measures WHERE run = ?')
  readonly #clearSummaries: (run: number) => void = this.run('DELETE FROM measure_summaries WHERE run = ?')
  readonly #ofRuns: (runs: readonly number[]) => (MeasureSummary & { run: number; error: number | null })[] = this.all(`
    SELECT s.run, n.name, n.dataset, n.unit, s.last AS value, s.best, s.error FROM json_each(?) wanted
    JOIN measure_summaries s ON s.run = wanted.value JOIN measure_names n ON n.id = s.name ORDER BY s.run, s.name`)

  add(run: number, measure: Measure, at: number): void {
    const row = { run, name: this.#nameId(measure), value: measure.value, error: measure.error ?? null, at }
    this.#insert(row)
    if (isLowerBetter(measure.name)) this.#lower(row)
    else this.#higher(row)
  }

  clear(run: number): void {
    this.#clear(run)
    this.#clearSummaries(run)
  }

  ofRuns(runs: readonly number[]): Map<number, MeasureSummary[]> {
    const found = new Map<number, MeasureSummary[]>()
    for (const { run, error, ...summary } of this.#ofRuns(runs)) {
      const measures = found.get(run) ?? []
      measures.push(error === null ? summary : { ...summary, error })
      found.set(run, measures)
    }
    return found
  }

  #summary(best: 'min' | 'max'): (measure: MeasureRow) => void {
    return this.run(`
      INSERT INTO measure_summaries(run, name, last, best, error) VALUES (@run, @name, @value, @value, @error)
      ON CONFLICT DO UPDATE SET last = excluded.last, best = ${best}(best, excluded.last), error = excluded.error`)
  }
}

interface MeasureRow {
  run: number
  name: number
  value: number
  error: number | null
  at: number
}
