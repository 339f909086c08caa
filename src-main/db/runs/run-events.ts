import type { GateStep } from '#contract/pruning/gates.ts'
import { type RecoveryPoint, withPoint } from '#contract/pruning/recovery.ts'
import type { Decision, Selection, Spectrum } from '#contract/runs/run.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import type { RecordedEvent } from '#contract/runs/runs.ts'
import { fromJson, Table } from '#db/sql-table.ts'

type EventOf<Type extends RunEvent['type']> = Extract<RunEvent, { type: Type }>

/** Events of runs in order. Decisions and selections are also stored by round, so that a resumed run overwrites its earlier ones. */
export class RunEventsTable extends Table {
  readonly #insert: (run: number, sequence: number, at: number, type: string, event: RunEvent) => void = this.run(
    'INSERT INTO run_events(run, sequence, at, type, event) VALUES (?, ?, ?, ?, ?)',
  )
  readonly #after: (page: { run: number; sequence: number; limit: number; types: readonly string[] | null }) => RecordedEvent[] = this.all(
    `SELECT sequence, at, event FROM run_events WHERE run = @run AND sequence > @sequence
     AND (@types IS NULL OR type IN (SELECT value FROM json_each(@types))) ORDER BY sequence LIMIT @limit`,
    (row: Omit<RecordedEvent, 'event'> & { event: string }) => ({ ...row, event: fromJson(row.event) }),
  )
  readonly #ofType: (run: number, type: string) => RunEvent[] = this.all(
    'SELECT event FROM run_events WHERE run = ? AND type = ? ORDER BY sequence',
    fromJson<RunEvent>,
  )
  readonly #clear = ['run_events', 'decisions', 'selections'].map((table) => this.run<[number]>(`DELETE FROM ${table} WHERE run = ?`))
  readonly #decide: (run: number, round: number, kind: string, block: number, decision: Decision) => void = this.run(
    'INSERT OR REPLACE INTO decisions(run, round, kind, block, decision) VALUES (?, ?, ?, ?, ?)',
  )
  readonly #select: (run: number, generation: number, tokens: number, selection: Selection) => void = this.run(
    'INSERT OR REPLACE INTO selections(run, generation, tokens, selection) VALUES (?, ?, ?, ?)',
  )

  readonly lastSequence: (run: number) => number = this.one('SELECT coalesce(max(sequence), 0) FROM run_events WHERE run = ?')
  readonly decisions: (run: number) => Decision[] = this.all(
    'SELECT decision FROM decisions WHERE run = ? ORDER BY round',
    fromJson<Decision>,
  )
  readonly selections: (run: number) => Selection[] = this.all(
    'SELECT selection FROM selections WHERE run = ? ORDER BY generation, tokens',
    fromJson<Selection>,
  )
  readonly removalOrder: (run: number) => Pick<Decision, 'kind' | 'block'>[] = this.all(
    'SELECT kind, block FROM decisions WHERE run = ? ORDER BY round',
  )

  add(run: number, event: RunEvent, at: number): RecordedEvent {
    const sequence = this.lastSequence(run) + 1
    this.#insert(run, sequence, at, event.type, event)
    if (event.type === 'decision') this.#decide(run, event.decision.round, event.decision.kind, event.decision.block, event.decision)
    if (event.type === 'selection') this.#select(run, event.selection.generation, event.selection.tokens, event.selection)
    return { sequence, at, event }
  }

  after(run: number, sequence: number, limit: number, types: readonly string[] | null = null): RecordedEvent[] {
    return this.#after({ run, sequence, limit, types })
  }

  /** Returns the latest spectrum of each part. */
  spectra(run: number): Spectrum[] {
    const spectra = this.#ofType(run, 'spectrum') as EventOf<'spectrum'>[]
    return [...new Map(spectra.map(({ spectrum }) => [spectrum.part, spectrum])).values()]
  }

  /** Returns the measurements of a training up to the latest. */
  recoveryPoints(run: number): RecoveryPoint[] {
    const points = this.#ofType(run, 'recovery') as EventOf<'recovery'>[]
    return points.reduce((known: RecoveryPoint[], { point }) => withPoint(known, point), [])
  }

  /** Returns the latest report of each step of trained gates. */
  gateSteps(run: number): GateStep[] {
    const steps = this.#ofType(run, 'gates') as EventOf<'gates'>[]
    return [...new Map(steps.map(({ step }) => [step.step, step])).values()].sort((a, b) => a.step - b.step)
  }

  clear(run: number): void {
    for (const clear of this.#clear) clear(run)
  }
}
