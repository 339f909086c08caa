import { afterEach, beforeEach, expect, test } from 'vitest'
import { runFields } from '#contract/runs/run-fields.ts'
import { type History, openHistory } from '#db/history.ts'
import { columnOf } from '#db/runs/run-filter.ts'
import type { RunPatch, RunRow } from '#db/runs/runs.ts'
import { startOverIfAsked } from '#jobs/run-actions.ts'
import { insertRun } from '../db/rows.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'

let folder: string
let history: History
beforeEach(() => {
  folder = scratchOfTest('retry')
  history = openHistory(folder)
})
afterEach(() => history.close())

/** A run whose earlier attempt filled in every field that is not known when a run is made. */
function attemptedRun(more: RunPatch = {}) {
  const { id, number } = insertRun(history, { status: 'queued' })
  const fresh = history.runs.get(id)
  const later = Object.entries(runFields).filter(([, entry]) => !('given' in entry))
  const values = later.map(([field, { kind }]) => [columnOf(field), kind === 'boolean' ? true : kind === 'text' ? 'earlier' : 123])
  history.runs.patch(number, { ...(Object.fromEntries(values) as RunPatch), start_over: 1, ...more })
  return { id, fresh, row: history.runs.get(id) }
}

const fieldsOf = (row: RunRow) => Object.fromEntries(Object.keys(runFields).map((field) => [field, row[columnOf(field) as keyof RunRow]]))

test('a retry clears every field that an attempt wrote, and keeps what users marked', () => {
  const { row, fresh } = attemptedRun({ problem: { code: 'internal', message: 'Earlier.', advice: null } })
  const again = startOverIfAsked(history, row)
  expect(fieldsOf(again)).toEqual({ ...fieldsOf(fresh), starred: 1 })
  expect([again.start_over, again.problem, again.progress]).toEqual([0, null, null])
})

test('a retry that has begun keeps what the new attempt wrote: its start and its device', () => {
  const { row, fresh } = attemptedRun({ status: 'running', device: 'this one' })
  const claimed = { ...row, attempt_at: 456 }
  const again = startOverIfAsked(history, claimed)
  expect(fieldsOf(again)).toEqual({ ...fieldsOf(fresh), status: 'running', starred: 1, startedAt: 456, device: 'this one' })
})

test('a retry of a run with a budget forgets the sparsity that met it, and the options that were resolved', () => {
  const { id, number } = insertRun(history, { status: 'queued' })
  const request = { ...history.documents.request(number), amount: { bytes: 1e6, format: 'stock' as const } }
  const wide = insertRun(history, { status: 'queued' })
  history.db.prepare('UPDATE run_documents SET request = ? WHERE run = ?').run(JSON.stringify(request), wide.number)
  history.runs.setParameters(wide.number, { windows: 64, alpha: 1.5 })
  history.runs.patch(wide.number, { nominal: 0.37, start_over: 1 })
  startOverIfAsked(history, history.runs.get(wide.id))
  const [entry] = history.runs.entries([wide.number])
  expect(entry?.nominal).toBeNull()
  expect(entry?.parameters).toEqual({ 'amount.bytes': 1e6, 'amount.format': 'stock', backend: 'auto' })
  // Another run keeps its own.
  expect(history.runs.get(id).nominal).toBe(0.5)
})
