import { setTimeout as sleep } from 'node:timers/promises'
import { EspalierError } from '#contract/errors.ts'
import type { Listener } from '#contract/events.ts'
import { mostShown, type QueueState, stoppedBy, type TakenUp } from '#contract/runs/queue.ts'
import { canAct } from '#contract/runs/run-status.ts'
import type { RunProblem } from '#contract/runs/runs.ts'
import type { History } from '#db/history.ts'
import type { RunPatch, RunRow } from '#db/runs/runs.ts'
import { fromJsonOrNull } from '#db/sql-table.ts'
import type { Clusters } from './cluster/clusters.ts'
import type { MemoryBudget } from './compute/memory-budget.ts'
import type { Executor } from './executor.ts'
import { markToStartOver, missingModel, rowsFor } from './run-actions.ts'
import { mostCrashes, roomForRun } from './run-attempt.ts'
import { ended } from './run-recorder.ts'
import type { ThisMachine } from './this-machine.ts'

interface QueueParts {
  history: History
  emit: Listener
  owner: string
  machine: ThisMachine
  clusters: Clusters
  memory: Pick<MemoryBudget, 'waits'>
  /** False for a process that only computes given runs and does not run the queue. */
  worksQueue: boolean
  /** Whether runs that were cut off are resumed automatically. */
  resumesRuns(): boolean
}

export type QueueAction = 'enqueue' | 'resume' | 'retry' | 'pause' | 'cancel'

const hourMilliseconds = 3_600_000

const crashedWith: RunProblem = {
  code: 'internal',
  message: `Espalier ended ${mostCrashes} times while it computed this run, so the run was not resumed automatically.`,
  advice: 'Set a lower memory limit, then resume. If it happens again, see the log and the diagnostics.',
}

/** The numbers of the changed runs, and the rows of runs to stop. */
export interface QueueChange {
  changed: number[]
  stopped?: readonly RunRow[]
}

/** How often a process that submitted a run checks whether it has ended. */
const followMilliseconds = 200

const pausedSetting = 'queue paused'
const stopSetting = 'queue stopped'

/** Errors that say something about one run, not about what other runs need too. */
const ownCauses = new Set(['invalid', 'infeasible', 'usage', 'cancelled'])

/** Why a run failed, in words that do not name it; undefined if it did not fail, or for a reason of its own. */
function commonCauseOf({ status, problem, name }: RunRow): string | undefined {
  const { code, message } = fromJsonOrNull<RunProblem>(problem) ?? {}
  if (message === undefined || (status !== 'failed' && status !== 'interrupted') || ownCauses.has(code ?? '')) return undefined
  return message.replaceAll(`"${name}"`, 'This run')
}

/** The queue of runs. The history decides which run is next and where; executors compute it. */
export class RunQueue {
  readonly #parts: QueueParts
  readonly #executors: readonly Executor[]
  readonly #news: QueueNews
  #owns = false
  #closed = false
  #takenUp: TakenUp | null = null
  /** The cause of the last failure, and the runs that failed of it in a row. */
  #lastFailure: { cause: string; runs: string[] } | undefined
  /** Whether this process submitted a run although it does not run the queue. */
  #sends = false

  constructor(parts: QueueParts) {
    this.#parts = parts
    this.#executors = [parts.machine, parts.clusters]
    this.#news = new QueueNews(parts.history, parts.emit, () => this.state())
    parts.history.writes.onChange(() => {
      this.tellRuns([])
      this.work()
    })
  }

  state(): QueueState {
    const { history, machine, clusters, memory } = this.#parts
    const now = Date.now()
    const numbers = [...history.queue.running(), ...history.queue.next(mostShown)].map(({ number }) => number)
    return {
      paused: this.#isPaused,
      obstacle: history.writes.obstacle,
      stopped: this.#stop,
      owner: this.#owns,
      devices: machine.devices,
      clusters: clusters.states,
      memoryWaits: memory.waits,
      runs: history.runs.entries(numbers),
      waiting: history.queue.countWaiting(),
      ended: history.queue.countEnded(),
      endedLastHour: history.queue.countEndedBetween(now - hourMilliseconds, now),
      takenUp: this.#takenUp,
    }
  }

  get #isPaused(): boolean {
    return this.#parts.history.settings.get(pausedSetting) === true
  }

  /** Reports changed runs, and the queue with them. */
  tellRuns(numbers: readonly number[]): void {
    if (!this.#closed) this.#news.tell(numbers)
  }

  /**
   * Offers waiting runs to the executors. Called after every relevant change, and cheap if there is nothing to do. If the history cannot be
   * written, it is called again when it can be.
   */
  work(): void {
    const { history, worksQueue } = this.#parts
    if (!this.#closed && (worksQueue || this.#sends)) history.writes.attempt(() => this.#offer())
  }

  #offer(): void {
    const { history, owner, worksQueue } = this.#parts
    this.#owns = history.owners.takeQueue(owner, Date.now())
    if (!this.#owns) return
    if (!this.#isPaused) this.#failWithoutModel()
    const needsRoom = this.#isPaused ? history.queue.hasAnalysis() : history.queue.countWaiting() > 0
    if (needsRoom && !history.writes.hasRoom(roomForRun(history))) return
    for (const executor of worksQueue ? this.#executors : [this.#parts.clusters]) executor.work(this.#isPaused)
  }

  /**
   * Fails runs whose model was removed while they waited, so that no executor gets them. Several of them stop the queue, as other common
   * causes do; the rest then waits until the model is back.
   */
  #failWithoutModel(): void {
    const { history } = this.#parts
    for (const row of history.queue.waitingWithoutModel()) {
      const missing = missingModel(history, row)
      if (!missing) continue
      const problem = { code: missing.code, message: missing.message, advice: null }
      history.runs.patch(row.number, { ...ended(row, 0), status: 'failed', queue_position: null, problem })
      this.tellRuns([row.number])
      if (this.noteEnd(row.number)) return
    }
  }

  get #stop(): QueueState['stopped'] {
    return stoppedBy
      .nullable()
      .catch(null)
      .parse(this.#parts.history.settings.get(stopSetting) ?? null)
  }

  /** Stops the queue if this run is the second in a row that failed for a cause that would fail others too. Returns whether it did. */
  noteEnd(number: number): boolean {
    const { history } = this.#parts
    const row = history.runs.byNumber(number)
    if (!row || row.status === 'queued' || row.status === 'running') return false
    const cause = commonCauseOf(row)
    const before = this.#lastFailure
    this.#lastFailure = cause === undefined ? undefined : { cause, runs: [row.id] }
    if (cause === undefined || before?.cause !== cause || before.runs.includes(row.id)) return false
    const runs = [...before.runs, row.id]
    this.#lastFailure = { cause, runs }
    history.writes.later('queue', () =>
      history.transaction(() => {
        history.settings.set(pausedSetting, true)
        history.settings.set(stopSetting, { message: cause, runs, since: Date.now() })
      }),
    )
    this.tellRuns([])
    return true
  }

  /**
   * Resumes the runs that were interrupted when the program ended, before all others. A run during which the program died twice stays
   * interrupted.
   */
  takeUp(): void {
    const { history, owner, worksQueue, resumesRuns } = this.#parts
    if (this.#closed || !worksQueue || !history.owners.takeQueue(owner, Date.now())) return
    const cutOff = history.queue.cutOff()
    if (cutOff.length === 0) return
    const held = cutOff.filter(({ crashes }) => crashes >= mostCrashes)
    const resumed = resumesRuns() ? cutOff.filter((row) => !held.includes(row)) : []
    const numbersOf = (rows: readonly RunRow[]) => rows.map(({ number }) => number)
    this.change(() => {
      for (const { number } of cutOff) history.runs.patch(number, { cut_off: 0 })
      for (const { number } of held) history.runs.patch(number, { problem: crashedWith })
      history.queue.putBack([], numbersOf(history.queue.waiting()), numbersOf(resumed))
      return { changed: numbersOf(cutOff) }
    })
    const names = (rows: readonly RunRow[]) => rows.map(({ id, name }) => ({ id, name }))
    if (resumed.length + held.length > 0) this.#takenUp = { resumed: names(resumed), held: names(held) }
  }

  /** Clears the notice of resumed runs, because the user has seen it. */
  forgetTakenUp(): void {
    this.#takenUp = null
    this.tellRuns([])
  }

  /** Applies an action to all of these runs, or to none if one of them does not allow it. */
  act(action: QueueAction, ids: readonly string[]): number[] {
    return this.change(() => this.write(action, rowsFor(this.#parts.history, action, ids)))
  }

  /** Changes runs in one transaction, then stops processes, informs listeners and runs the queue. Returns the changed runs' numbers. */
  change(write: () => QueueChange): number[] {
    const { changed, stopped = [] } = this.#parts.history.transaction(write)
    if (stopped.length > 0) for (const executor of this.#executors) executor.abandon(stopped)
    this.tellRuns(changed)
    this.work()
    return changed
  }

  /** Writes an action to rows that allow it. Call it inside `change`. */
  write(action: QueueAction, rows: readonly RunRow[]): QueueChange {
    const { history } = this.#parts
    const changed = rows.map(({ number }) => number)
    if (action === 'pause' || action === 'cancel') {
      for (const row of rows) {
        const patch = this.#stopped(row, action)
        history.runs.patch(row.number, patch)
        if (patch.wish) this.#news.asked.add(row.id)
      }
      return { changed, stopped: rows }
    }
    if (action === 'retry') for (const row of rows) markToStartOver(history, row)
    // The crashes of a run that the user starts are counted from zero.
    for (const row of rows) if (row.crashes > 0) history.runs.patch(row.number, { crashes: 0 })
    const numbersOf = (analyses: boolean) => rows.filter(({ method }) => (method === 'divergence') === analyses).map(({ number }) => number)
    history.queue.enqueue(numbersOf(false))
    history.queue.enqueueFirst(numbersOf(true))
    return { changed }
  }

  /** Returns the changes to the row of a run that is stopped. If another process owns the run, only the wish to stop is recorded. */
  #stopped(row: RunRow, action: 'pause' | 'cancel'): RunPatch {
    const status = action === 'cancel' ? 'cancelled' : 'paused'
    if (row.status === 'running' && row.executor === null && row.owner !== this.#parts.owner) return { wish: action }
    if (row.status === 'running') return { ...ended(row, this.secondsOf(row)), status }
    return { status, queue_position: null, wish: null, ...(action === 'cancel' ? { ended_at: Date.now() } : {}) }
  }

  /** Seconds that the current attempt at a run has taken. */
  secondsOf({ id }: RunRow): number {
    return Math.max(...this.#executors.map((executor) => executor.secondsOf(id)))
  }

  /** Handles stop requests from other processes, and abandons our runs that they took over as orphans. */
  obeyOtherProcesses(): void {
    for (const { row, wish } of this.#parts.machine.takeWishesOfOthers()) this.#news.ofOthers(row.id, () => this.act(wish, [row.id]))
  }

  /** Moves a waiting run before another, or to the end. */
  move(id: string, before: string | null): void {
    const { history } = this.#parts
    const [row, other] = [history.runs.get(id), before === null ? null : history.runs.get(before)]
    if (row.status !== 'queued' || (other && other.status !== 'queued'))
      throw new EspalierError('conflict', 'Only waiting runs can be moved in the queue.')
    history.queue.move(row.number, other?.number ?? null)
    this.tellRuns([])
  }

  /** @param retries whether the runs whose common cause stopped the queue are resumed with it */
  setPaused(paused: boolean, retries = false): void {
    const { history } = this.#parts
    const stop = this.#stop
    this.change(() => {
      history.settings.set(pausedSetting, paused)
      if (paused || stop === null) return { changed: [] }
      history.settings.set(stopSetting, null)
      if (!retries) return { changed: [] }
      const rows = stop.runs.flatMap((id) => history.runs.find(id) ?? []).filter(({ status }) => canAct('resume', status))
      const missing = rows.map((row) => missingModel(history, row)).find((one) => one !== undefined)
      if (missing) throw missing
      const numbers = rows.map(({ number }) => number)
      history.queue.putBack(
        [],
        history.queue.waiting().map(({ number }) => number),
        numbers,
      )
      return { changed: numbers }
    })
    this.#lastFailure = undefined
    if (!paused) for (const executor of this.#executors) executor.allowRetries()
    this.tellRuns([])
    this.work()
  }

  /** Computes one run now, in this process or on its cluster. Resolves when it has ended. */
  async runNow(id: string): Promise<void> {
    const { history, machine } = this.#parts
    const row = history.runs.get(id)
    if (row.status === 'done' || (row.status === 'running' && row.executor === null))
      throw new EspalierError('conflict', `"${row.name}" is already ${row.status}.`)
    const missing = missingModel(history, row)
    if (missing) throw missing
    await (row.executor === null ? machine.runNow(row.number) : this.#runOnCluster(row))
  }

  /** Sends a run to its cluster and waits for its end. If another process runs the queue, that process sends and follows the job. */
  async #runOnCluster({ id, number, status }: RunRow): Promise<void> {
    const { history } = this.#parts
    if (status !== 'queued' && status !== 'running') history.queue.enqueue([number])
    this.tellRuns([number])
    this.#sends = true
    while (!this.#closed && isUnderWay(history.runs.find(id))) {
      this.work()
      await sleep(followMilliseconds)
    }
  }

  /** Interrupts the runs that cannot continue without this process. They can be resumed. */
  async close(): Promise<void> {
    const { history, owner } = this.#parts
    this.#closed = true
    this.#news.end()
    const closing = this.#executors.map((executor) => executor.close())
    history.writes.later('closing', () => history.owners.leaveQueue(owner))
    await Promise.all(closing)
  }
}

const isUnderWay = (row: RunRow | undefined): boolean => row?.status === 'queued' || row?.status === 'running'

/** Changes within this interval are reported together. */
const tellMilliseconds = 50

/** Reports changes to listeners: those of runs at once, those of the queue and of experiments together after a short delay. */
class QueueNews {
  readonly #history: History
  readonly #emit: Listener
  readonly #state: () => QueueState
  readonly #experiments = new Set<string>()
  /** The runs that listeners know as running. */
  readonly #running = new Set<string>()
  /** Runs of other processes that this one has asked to stop. */
  readonly asked = new Set<string>()
  /** The run whose change another process asked for. */
  #elsewhere: string | undefined
  #telling: NodeJS.Timeout | undefined
  #ended = false

  constructor(history: History, emit: Listener, state: () => QueueState) {
    this.#history = history
    this.#emit = emit
    this.#state = state
  }

  tell(numbers: readonly number[]): void {
    this.#history.writes.guard(() => this.#tellRuns(numbers, this.#elsewhere))
    this.#telling ??= setTimeout(() => this.#tellRest(), tellMilliseconds).unref()
  }

  /** Makes a change of a run that another process asked for. */
  ofOthers(id: string, change: () => void): void {
    this.#elsewhere = id
    try {
      change()
    } finally {
      this.#elsewhere = undefined
    }
  }

  #tellRuns(numbers: readonly number[], elsewhere?: string): void {
    for (const run of this.#history.runs.entries(numbers)) {
      if (run.status !== 'running') this.#running.delete(run.id)
      this.#emit({ name: 'run changed', data: { run, ...(run.id === elsewhere ? { elsewhere: true } : {}) } })
      if (run.experiment) this.#experiments.add(run.experiment.id)
    }
  }

  /** Reports runs that have ended since the last report of the queue, without one of their own: another process ended them. */
  #tellEnded({ runs }: QueueState): void {
    const running = new Set(runs.flatMap(({ id, status }) => (status === 'running' ? id : [])))
    for (const id of this.#running) {
      const row = running.has(id) ? undefined : this.#history.runs.find(id)
      if (row) this.#tellRuns([row.number], this.asked.delete(id) ? undefined : id)
    }
    this.#running.clear()
    for (const id of running) this.#running.add(id)
  }

  #tellRest(): void {
    this.#telling = undefined
    if (this.#ended) return
    this.#history.writes.guard(() => {
      const queue = this.#state()
      this.#tellEnded(queue)
      this.#emit({ name: 'queue changed', data: { queue } })
      for (const id of this.#experiments) {
        const experiment = this.#history.experiments.find(id)
        if (experiment) this.#emit({ name: 'experiment changed', data: { experiment } })
      }
      this.#experiments.clear()
    })
  }

  /** Drops pending reports. */
  end(): void {
    this.#ended = true
    clearTimeout(this.#telling)
  }
}
