import { isLowerBetter, type Measure, type MeasureDetails, type MeasuredOn } from '#contract/runs/measures.ts'
import type { MeasureSummary } from '#contract/runs/runs.ts'
import { fromJson, fromJsonOrNull, Table } from '#db/sql-table.ts'

/**
 * Results of runs. `measures` has every value, and `measure_summaries` the last and the best, so that tables need no aggregate.
 * `measure_details` has the losses and answers behind the last value.
 */
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
  readonly #ofRuns: (runs: readonly number[]) => StoredSummary[] = this.all(`
    SELECT s.run, n.name, n.dataset, n.unit, s.last AS value, s.best, s.error, s.taken_on AS takenOn, s.name AS id FROM json_each(?) wanted
    JOIN measure_summaries s ON s.run = wanted.value JOIN measure_names n ON n.id = s.name ORDER BY s.run, s.name`)
  readonly #putDetails: (run: number, name: number, details: MeasureDetails) => void = this.run(
    'INSERT OR REPLACE INTO measure_details(run, name, details) VALUES (?, ?, ?)',
  )
  readonly #dropDetails: (run: number, name: number) => void = this.run('DELETE FROM measure_details WHERE run = ? AND name = ?')
  readonly #clearDetails: (run: number) => void = this.run('DELETE FROM measure_details WHERE run = ?')
  readonly #detailsOf: (runs: readonly number[]) => { run: number; name: number; details: string }[] = this.all(
    'SELECT d.run, d.name, d.details FROM json_each(?) wanted JOIN measure_details d ON d.run = wanted.value',
  )

  add(run: number, measure: Measure, at: number): void {
    const { value, error = null, on = null } = measure
    const row = { run, name: this.#nameId(measure), value, error, at }
    this.#insert(row)
    if (isLowerBetter(measure.name)) this.#lower({ ...row, on })
    else this.#higher({ ...row, on })
    const details = detailsOf(measure)
    if (Object.keys(details).length > 0) this.#putDetails(run, row.name, details)
    else this.#dropDetails(run, row.name)
  }

  clear(run: number): void {
    this.#clear(run)
    this.#clearSummaries(run)
    this.#clearDetails(run)
  }

  /** Returns the measures of runs, with `details` also their losses by window and their answers. */
  ofRuns(runs: readonly number[], details = false): Map<number, MeasureSummary[]> {
    const stored = details ? this.#detailsOf(runs) : []
    const detailed = new Map(stored.map(({ run, name, details: text }) => [`${run} ${name}`, fromJson<MeasureDetails>(text)]))
    const found = new Map<number, MeasureSummary[]>()
    for (const { run, id, error, takenOn, ...summary } of this.#ofRuns(runs)) {
      const measures = found.get(run) ?? []
      const on = fromJsonOrNull<MeasuredOn>(takenOn)
      measures.push({ ...summary, ...(error === null ? {} : { error }), ...(on ? { on } : {}), ...detailed.get(`${run} ${id}`) })
      found.set(run, measures)
    }
    return found
  }

  #summary(best: 'min' | 'max'): (measure: MeasureRow & { on: MeasuredOn | null }) => void {
    return this.run(`
      INSERT INTO measure_summaries(run, name, last, best, error, taken_on) VALUES (@run, @name, @value, @value, @error, @on)
      ON CONFLICT DO UPDATE SET last = excluded.last, best = ${best}(best, excluded.last), error = excluded.error, taken_on = excluded.taken_on`)
  }
}

/** Returns the parts of a measure that lists of runs leave out. */
function detailsOf({ losses, predicted, hits }: Measure): MeasureDetails {
  return {
    ...(losses === undefined ? {} : { losses }),
    ...(predicted === undefined ? {} : { predicted }),
    ...(hits === undefined ? {} : { hits }),
  }
}

type StoredSummary = Omit<MeasureSummary, 'error' | 'on'> & { run: number; id: number; error: number | null; takenOn: string | null }

interface MeasureRow {
  run: number
  name: number
  value: number
  error: number | null
  at: number
}
