import type { RecoveryPoint } from '#contract/pruning/recovery.ts'
import type { Decision, Selection, Spectrum } from '#contract/runs/run.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import type { RecordedEvent } from '#contract/runs/runs.ts'
import type { Database } from '../database.ts'

interface EventRow {
  sequence: number
  at: number
  event: string
}

/** Events of runs in order, and decisions and selections by round; a resumed run overwrites its own. */
export function runEventsTable(db: Database) {
  const last = db.prepare('SELECT coalesce(max(sequence), 0) FROM run_events WHERE run = ?').pluck()
  const insert = db.prepare('INSERT INTO run_events(run, sequence, at, type, event) VALUES (?, ?, ?, ?, ?)')
  const after = db.prepare('SELECT sequence, at, event FROM run_events WHERE run = ? AND sequence > ? ORDER BY sequence LIMIT ?')
  const ofTypes = db.prepare(
    'SELECT sequence, at, event FROM run_events WHERE run = ? AND sequence > ? AND type IN (SELECT value FROM json_each(?)) ORDER BY sequence LIMIT ?',
  )
  const clear = ['run_events', 'decisions', 'selections'].map((table) => db.prepare(`DELETE FROM ${table} WHERE run = ?`))
  const decide = db.prepare('INSERT OR REPLACE INTO decisions(run, round, kind, block, decision) VALUES (?, ?, ?, ?, ?)')
  const select = db.prepare('INSERT OR REPLACE INTO selections(run, generation, tokens, selection) VALUES (?, ?, ?, ?)')
  const decisions = db.prepare('SELECT decision FROM decisions WHERE run = ? ORDER BY round').pluck()
  const selections = db.prepare('SELECT selection FROM selections WHERE run = ? ORDER BY generation, tokens').pluck()
  const spectra = db.prepare("SELECT event FROM run_events WHERE run = ? AND type = 'spectrum' ORDER BY sequence").pluck()
  const points = db.prepare("SELECT event FROM run_events WHERE run = ? AND type = 'recovery' ORDER BY sequence").pluck()
  const order = db.prepare('SELECT kind, block FROM decisions WHERE run = ? ORDER BY round')
  return {
    add(run: number, event: RunEvent, at: number): RecordedEvent {
      const sequence = (last.get(run) as number) + 1
      insert.run(run, sequence, at, event.type, JSON.stringify(event))
      if (event.type === 'decision')
        decide.run(run, event.decision.round, event.decision.kind, event.decision.block, JSON.stringify(event.decision))
      if (event.type === 'selection') select.run(run, event.selection.generation, event.selection.tokens, JSON.stringify(event.selection))
      return { sequence, at, event }
    },
    lastSequence: (run: number) => last.get(run) as number,
    after(run: number, sequence: number, limit: number, types?: readonly string[]): RecordedEvent[] {
      const rows = types ? ofTypes.all(run, sequence, JSON.stringify(types), limit) : after.all(run, sequence, limit)
      return (rows as EventRow[]).map((row) => ({ ...row, event: JSON.parse(row.event) as RunEvent }))
    },
    decisions: (run: number) => (decisions.all(run) as string[]).map((text) => JSON.parse(text) as Decision),
    selections: (run: number) => (selections.all(run) as string[]).map((text) => JSON.parse(text) as Selection),
    /** The latest one per part. */
    spectra(run: number): Spectrum[] {
      const told = (spectra.all(run) as string[]).map((text) => (JSON.parse(text) as Extract<RunEvent, { type: 'spectrum' }>).spectrum)
      return [...new Map(told.map((spectrum) => [spectrum.part, spectrum])).values()]
    },
    /** One for each step that was measured, the latest. */
    recoveryPoints(run: number): RecoveryPoint[] {
      const told = (points.all(run) as string[]).map((text) => (JSON.parse(text) as Extract<RunEvent, { type: 'recovery' }>).point)
      return [...new Map(told.map((point) => [point.step, point])).values()].sort((a, b) => a.step - b.step)
    },
    removalOrder: (run: number) => order.all(run) as { kind: Decision['kind']; block: number }[],
    clear(run: number): void {
      for (const statement of clear) statement.run(run)
    },
  }
}
