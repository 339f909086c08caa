import type { RunRequest } from '#contract/runs/run-request.ts'
import type { ParameterValue } from '#contract/runs/runs.ts'
import { Table } from '#db/sql-table.ts'

/** Flattens a run's parameters to typed values for columns and filters. Omits fields that are columns of the runs table. */
export function flattenParameters(request: RunRequest, resolved: Record<string, unknown> = {}): Record<string, ParameterValue> {
  const flat: Record<string, ParameterValue> = {}
  addFlat(flat, '', { ...request.options, ...resolved })
  addFlat(flat, 'calibration', request.calibration)
  addFlat(flat, 'vocabulary', request.vocabulary)
  addFlat(flat, 'repair', request.repair)
  addFlat(flat, 'recover', request.recover)
  addFlat(flat, 'amount', request.amount)
  addFlat(flat, 'beginToken', request.beginToken)
  addFlat(flat, 'weights', request.weights)
  addFlat(flat, 'backend', request.backend)
  addFlat(flat, 'memoryBytes', request.memoryBytes)
  return flat
}

function addFlat(flat: Record<string, ParameterValue>, name: string, value: unknown): void {
  if (value === undefined || value === null) return
  if (typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean') flat[name] = value
  else if (Array.isArray(value)) flat[name] = JSON.stringify(value)
  else for (const [key, inner] of Object.entries(value as object)) addFlat(flat, name ? `${name}.${key}` : key, inner)
}

export class ParametersTable extends Table {
  readonly #nameId: (name: string) => number | undefined = this.first('SELECT id FROM parameter_names WHERE name = ?')
  readonly #addName: (name: string) => number = this.one('INSERT INTO parameter_names(name) VALUES (?) RETURNING id')
  readonly #clear: (run: number) => void = this.run('DELETE FROM parameters WHERE run = ?')
  readonly #insert: (run: number, name: number, kind: string, value: ParameterValue) => void = this.run(
    'INSERT INTO parameters(run, name, kind, value) VALUES (?, ?, ?, ?)',
  )
  readonly #ofRuns: (runs: readonly number[]) => { run: number; name: string; kind: string; value: number | string }[] = this.all(`
    SELECT p.run, n.name, p.kind, p.value FROM json_each(?) wanted
    JOIN parameters p ON p.run = wanted.value JOIN parameter_names n ON n.id = p.name`)

  replace(run: number, parameters: Record<string, ParameterValue>): void {
    this.#clear(run)
    for (const [name, value] of Object.entries(parameters))
      this.#insert(run, this.#nameId(name) ?? this.#addName(name), kindOf(value), value)
  }

  ofRuns(runs: readonly number[]): Map<number, Record<string, ParameterValue>> {
    const found = new Map<number, Record<string, ParameterValue>>()
    for (const { run, name, kind, value } of this.#ofRuns(runs)) {
      const parameters = found.get(run) ?? {}
      parameters[name] = kind === 'boolean' ? value === 1 : value
      found.set(run, parameters)
    }
    return found
  }
}

function kindOf(value: ParameterValue): string {
  return typeof value === 'string' ? 'text' : typeof value
}
