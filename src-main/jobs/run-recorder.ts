import type { Listener } from '#contract/events.ts'
import { explainIssues } from '#contract/explain-issue.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { type RunEvent, runEvent } from '#contract/runs/run-events.ts'
import type { RecordedEvent, RunEntry, RunProblem } from '#contract/runs/runs.ts'
import { isBeginStep, isContentsStep, reachOfStep } from '#contract/runs/step-names.ts'
import { version as ownVersion } from '#contract/version.ts'
import type { History } from '#db/history.ts'
import type { RunPatch, RunRow } from '#db/runs/runs.ts'
import type { FoundStep } from './compute/job-side.ts'
import { type AttemptEnvironment, storeResult } from './run-result.ts'

/** Progress arrives many times a second. Listeners get it at the first interval, and the history stores it at the second. */
const progressToldMilliseconds = 100
const progressKeptMilliseconds = 2000

type ProgressEvent = Extract<RunEvent, { type: 'progress' }>

/** Stores the events of one attempt of a run and forwards them. */
export class RunRecorder {
  readonly secondsSoFar: () => number
  readonly #history: History
  readonly #row: RunRow
  readonly #emit: Listener
  readonly #telling: Throttle<ProgressEvent>
  readonly #keeping: Throttle<ProgressEvent>
  #phase: string | undefined
  #isAfresh: boolean | undefined
  #hasProgressed = false

  /** @param secondsSoFar how long the attempt has taken; by default counted from now */
  constructor(history: History, row: RunRow, emit: Listener, secondsSoFar?: () => number) {
    this.#history = history
    this.#row = row
    this.#emit = emit
    const stopwatch = new Stopwatch()
    this.secondsSoFar = secondsSoFar ?? (() => stopwatch.seconds)
    const { runs, events, writes } = history
    this.#telling = new Throttle(progressToldMilliseconds, (event) =>
      writes.guard(() => this.#tell({ sequence: events.lastSequence(row.number), at: Date.now(), event })),
    )
    // The next progress replaces this one, so it need not wait.
    this.#keeping = new Throttle(progressKeptMilliseconds, ({ progress }) => writes.attempt(() => runs.patch(row.number, { progress })))
  }

  /** Discards undelivered progress, because the run no longer belongs to this recorder. */
  drop(): void {
    this.#telling.drop()
    this.#keeping.drop()
  }

  /** Delivers pending progress. */
  flush(): void {
    this.#telling.flush()
    this.#keeping.flush()
  }

  /** Stores an event, or a note about one that cannot be read. Returns the event if it could be read. */
  event(raw: unknown, at = Date.now()): RunEvent | undefined {
    const { data, error } = runEvent.safeParse(raw)
    const lost = 'An event from the run could not be stored.'
    const event: RunEvent = data ?? { type: 'note', text: `${lost} ${explainIssues(error, raw)[0]?.message ?? ''}`.trimEnd() }
    if (event.type === 'progress') this.#progress(event)
    else if (event.type === 'model') belongTo(this.#history, this.#row, event.fingerprint)
    else this.#tell(this.#history.transaction(() => this.#keep(event, at)))
    return data
  }

  getStep(name: string): FoundStep | undefined {
    const { steps } = this.#history
    const { id } = this.#row
    const found = steps.get(id, name) ?? (this.#computesAll || reachOfStep(name) === 'own' ? undefined : this.#takeOver(name))
    return found && { ...found, own: doerOf(found.value) === id }
  }

  /** Finds a step of another run, or one that was done to measure the begin token when the model was added. */
  #takeOver(name: string): FoundStep | undefined {
    const { steps, models } = this.#history
    const found = steps.takeOver(this.#row.id, name)
    if (found || !(isBeginStep(name) || isContentsStep(name))) return found
    const measured = models.find(this.#row.model)?.beginFigures
    if (!measured) return undefined
    const { step, measuredAt: _, contents, ...figures } = measured
    if (contents?.step === name) return { value: { value: contents.fingerprint, seconds: 0 } }
    return step === name ? { value: { value: figures, seconds: 0 } } : undefined
  }

  /** Whether the run takes no steps from others, because it reproduces a description afresh. */
  get #computesAll(): boolean {
    this.#isAfresh ??= this.#history.documents.request(this.#row.number).reproduces?.afresh === true
    return this.#isAfresh
  }

  putStep(name: string, value: unknown, tensors?: TensorFile): void {
    const { id } = this.#row
    // Crashes are counted since the last progress.
    if (!this.#hasProgressed && this.#row.crashes > 0) this.#history.runs.patch(this.#row.number, { crashes: 0 })
    this.#hasProgressed = true
    this.#history.steps.put(id, name, isObject(value) ? { ...value, run: id } : value, Date.now(), tensors)
  }

  /** Stores the run's result in one transaction: everything that its page and comparisons need. */
  finish(result: unknown, environment: AttemptEnvironment): void {
    this.flush()
    this.#history.transaction(() => {
      const baseline = storeResult(this.#history, this.#row, { result, environment, end: ended(this.#row, this.secondsSoFar()) })
      if (baseline === undefined) return
      this.#emit({ name: 'run changed', data: { run: this.#history.runs.entries([baseline])[0] as RunEntry } })
    })
  }

  /** Stores the environment of an attempt that ended without a document. */
  keepEnvironment(environment: AttemptEnvironment): void {
    this.#history.documents.set(this.#row.number, { environment: { ...environment, version: ownVersion, backend: null } })
  }

  fail(problem: RunProblem, status: 'failed' | 'interrupted', environment: AttemptEnvironment): void {
    this.flush()
    this.#history.transaction(() => {
      this.keepEnvironment(environment)
      this.#history.runs.patch(this.#row.number, { ...ended(this.#row, this.secondsSoFar()), status, problem })
    })
  }

  /** Puts the run back at the front of the queue, to be attempted again. */
  putBack(changes: RunPatch = {}): void {
    this.flush()
    const { queue, runs } = this.#history
    this.#history.transaction(() => {
      runs.patch(this.#row.number, ended(this.#row, this.secondsSoFar()))
      queue.putBack(
        [],
        queue.waiting().map(({ number }) => number),
        [this.#row.number],
      )
      runs.patch(this.#row.number, changes)
    })
  }

  #tell(recorded: RecordedEvent): void {
    this.#emit({ name: 'run event', data: { run: this.#row.id, recorded } })
  }

  /** Delivers the first event of a phase and its end at once, and always the last event. */
  #progress(event: ProgressEvent): void {
    const urgent = event.progress.phase !== this.#phase || event.progress.done >= event.progress.total
    this.#phase = event.progress.phase
    this.#keeping.push(event, urgent)
    this.#telling.push(event, urgent)
  }

  #keep(event: RunEvent, at: number): RecordedEvent {
    const { documents, events } = this.#history
    const { number } = this.#row
    if (event.type === 'measure') return this.#keepMeasure(event, at)
    if (event.type === 'width') documents.set(number, { width: { kept: event.kept, of: event.of } })
    if (event.type !== 'neuron scores') return events.add(number, event, at)
    const { type: _, ...scores } = event
    documents.set(number, { neuronScores: scores })
    // The scores are long and stored in the run's document; the event only records their arrival.
    return { ...events.add(number, { ...event, scores: [] }, at), event }
  }

  /** Stores a measure with its losses by window. The event only records its value. */
  #keepMeasure(event: Extract<RunEvent, { type: 'measure' }>, at: number): RecordedEvent {
    const { losses: _, predicted: __, hits: ___, ...short } = event.measure
    this.#history.measures.add(this.#row.number, event.measure, at)
    return { ...this.#history.events.add(this.#row.number, { ...event, measure: short }, at), event }
  }
}

/** Counts seconds from now on, except while it is held. */
export class Stopwatch {
  #counted = 0
  #since: number | null = performance.now()

  get seconds(): number {
    return (this.#counted + (this.#since === null ? 0 : performance.now() - this.#since)) / 1000
  }

  hold(held: boolean): void {
    this.#counted = 1000 * this.seconds
    this.#since = held ? null : performance.now()
  }
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Returns the id of the run that computed a step. */
const doerOf = (value: unknown): unknown => (isObject(value) ? value.run : undefined)

/**
 * Returns the changes to a row at the end of an attempt, whatever its outcome.
 * @param attemptSeconds measured with a monotonic clock
 */
export function ended(row: Pick<RunRow, 'seconds'>, attemptSeconds: number): RunPatch & { ended_at: number } {
  return { owner: null, wish: null, ended_at: Date.now(), seconds: (row.seconds ?? 0) + attemptSeconds }
}

/** Records the model's fingerprint, and deletes what earlier attempts reported about another model: a run never mixes two models. */
function belongTo(history: History, { id, number }: RunRow, fingerprint: string): void {
  const before = history.runs.find(id)?.fingerprint ?? null
  history.transaction(() => {
    if (before !== null && before !== fingerprint) {
      history.events.clear(number)
      history.measures.clear(number)
      history.documents.clear(number)
    }
    history.runs.patch(number, { fingerprint })
  })
}

/** Delivers at most one value per interval. The last value is always delivered: one that comes too early, when the interval ends. */
class Throttle<Value> {
  readonly #milliseconds: number
  readonly #deliver: (value: Value) => unknown
  #deliveredAt = Number.NEGATIVE_INFINITY
  #waiting: { value: Value } | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(milliseconds: number, deliver: (value: Value) => unknown) {
    this.#milliseconds = milliseconds
    this.#deliver = deliver
  }

  /** Delivers now if the interval is over or the value is urgent; otherwise delivers the latest value later. */
  push(value: Value, urgent: boolean): void {
    this.#waiting = { value }
    const left = this.#deliveredAt + this.#milliseconds - performance.now()
    if (urgent || left <= 0) this.flush()
    else this.#timer ??= setTimeout(() => this.flush(), left).unref()
  }

  /** Delivers the pending value. */
  flush(): void {
    const last = this.#waiting
    this.drop()
    if (!last) return
    this.#deliveredAt = performance.now()
    this.#deliver(last.value)
  }

  /** Discards the pending value. */
  drop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#waiting = undefined
  }
}
