import type { RunRequest } from '#contract/runs/run-request.ts'
import type { ParameterValue } from '#contract/runs/runs.ts'
import type { Database } from '../database.ts'

/** A run's parameters, flat and typed, for columns and filters. Omits fields that are columns of the runs table. */
export function flattenParameters(request: RunRequest, resolved: Record<string, unknown> = {}): Record<string, ParameterValue> {
  const flat: Record<string, ParameterValue> = {}
  addFlat(flat, '', { ...request.options, ...resolved })
  addFlat(flat, 'calibration', request.calibration)
  addFlat(flat, 'repair', request.repair)
  addFlat(flat, 'recover', request.recover)
  addFlat(flat, 'amount', request.amount)
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

export function parametersTable(db: Database) {
  const addName = db.prepare('INSERT OR IGNORE INTO parameter_names(name) VALUES (?)')
  const nameId = db.prepare('SELECT id FROM parameter_names WHERE name = ?').pluck()
  const clear = db.prepare('DELETE FROM parameters WHERE run = ?')
  const insert = db.prepare('INSERT INTO parameters(run, name, kind, value) VALUES (?, ?, ?, ?)')
  const ofRuns = db.prepare(`
    SELECT p.run, n.name, p.kind, p.value FROM json_each(?) wanted
    JOIN parameters p ON p.run = wanted.value JOIN parameter_names n ON n.id = p.name`)
  return {
    replace(run: number, parameters: Record<string, ParameterValue>): void {
      clear.run(run)
      for (const [name, value] of Object.entries(parameters)) {
        addName.run(name)
        insert.run(run, nameId.get(name), kindOf(value), typeof value === 'boolean' ? Number(value) : value)
      }
    },
    ofRuns(runs: readonly number[]): Map<number, Record<string, ParameterValue>> {
      const found = new Map<number, Record<string, ParameterValue>>()
      for (const row of ofRuns.iterate(JSON.stringify(runs)) as Iterable<{
        run: number
        name: string
        kind: string
        value: number | string
      }>) {
        const parameters = found.get(row.run) ?? {}
        parameters[row.name] = row.kind === 'boolean' ? row.value === 1 : row.value
        found.set(row.run, parameters)
      }
      return found
    },
  }
}

function kindOf(value: ParameterValue): string {
  return typeof value === 'string' ? 'text' : typeof value
}
