import { EspalierError } from '#contract/errors.ts'
import type { Listener } from '#contract/events.ts'
import type { DeviceState, QueueState } from '#contract/queue.ts'
import type { History } from '#db/history.ts'
import type { RunPatch, RunRow } from '#db/runs.ts'
import type { ComputeHost } from './compute-host.ts'
import type { Device } from './devices.ts'
import { QueueNews } from './queue-news.ts'
import { rowsFor, startOver } from './run-actions.ts'
import { type Attempt, attemptRun, type FetchFile } from './run-attempt.ts'
import type { RunLogs } from './run-log.ts'
import { ended } from './run-recorder.ts'

interface Place {
  readonly device: Device
  readonly host: ComputeHost
}

export interface QueueParts {
  history: History
  logs: RunLogs
  emit: Listener
  owner: string
  devices: readonly Place[]
  /** False for a process that leaves the queue to others and only does runs that it is told to. */
  worksQueue: boolean
  fetchFile: FetchFile
}

const pausedSetting = 'queue paused'

/** The queue of runs over the devices of this process: the history says what is next, this says who does it. */
export class RunQueue {
  readonly #parts: QueueParts
  readonly #attempts = new Map<string, Attempt>()
  readonly #news: QueueNews
  #owns = false
  #closed = false

  constructor(parts: QueueParts) {
    this.#parts = parts
    this.#news = new QueueNews(parts.history, parts.emit, () => this.state())
  }

  state(): QueueState {
    const { history, devices } = this.#parts
    const numbers = [...history.queue.running(), ...history.queue.waiting()].map(({ number }) => number)
    return {
      paused: this.#isPaused,
      owner: this.#owns,
      devices: devices.map((place) => this.#stateOf(place)),
      runs: history.runs.entries(numbers),
    }
  }

  #stateOf({ device: { id, title, kind }, host }: Place): DeviceState {
    return { id, title, kind, status: host.status, run: this.#attempts.get(id)?.row.id ?? null, problem: host.problem }
  }

  get #isPaused(): boolean {
    return this.#parts.history.settings.get(pausedSetting) === true
  }

  /** Says that runs changed, and the queue with them. */
  tellRuns(numbers: readonly number[]): void {
    this.#news.tell(numbers)
  }

  /** Gives waiting runs to free devices. Cheap when there is nothing to do; called after everything that may matter. */
  work(): void {
    const { history, owner, devices, worksQueue } = this.#parts
    if (this.#closed || !worksQueue) return
    this.#owns = history.owners.takeQueue(owner, Date.now())
    if (!this.#owns || this.#isPaused) return
    for (const place of devices) {
      if (this.#attempts.has(place.device.id) || place.host.status === 'broken') continue
      const row = history.queue.claimNext(owner, place.device.title, Date.now())
      if (!row) return
      this.#begin(row, place)
    }
  }

  #begin(row: RunRow, { device, host }: Place): Attempt {
    const { history, logs, emit, fetchFile } = this.#parts
    const attempt = attemptRun({ history, logs, emit, host, row, fetchFile, changed: () => this.tellRuns([row.number]) })
    this.#attempts.set(device.id, attempt)
    this.tellRuns([row.number])
    void attempt.over.then(() => {
      this.#attempts.delete(device.id)
      if (!this.#closed) this.tellRuns([row.number])
      this.work()
    })
    return attempt
  }

  enqueue(ids: readonly string[]): number[] {
    return this.#enqueue('enqueue', ids)
  }

  resume(ids: readonly string[]): number[] {
    return this.#enqueue('resume', ids)
  }

  /** Puts runs into the queue again, without what they found before. */
  retry(ids: readonly string[]): number[] {
    return this.#enqueue('retry', ids)
  }

  #enqueue(action: 'enqueue' | 'resume' | 'retry', ids: readonly string[]): number[] {
    const { history } = this.#parts
    const rows = rowsFor(history, action, ids)
    const numbers = rows.map(({ number }) => number)
    history.transaction(() => {
      if (action === 'retry') for (const row of rows) startOver(history, row)
      history.queue.enqueue(numbers)
    })
    this.tellRuns(numbers)
    this.work()
    return numbers
  }

  pause(ids: readonly string[]): number[] {
    return this.#stop('pause', ids)
  }

  cancel(ids: readonly string[]): number[] {
    return this.#stop('cancel', ids)
  }

  /** The row says it at once; the process follows, by itself or by force. */
  #stop(action: 'pause' | 'cancel', ids: readonly string[]): number[] {
    const { history } = this.#parts
    const rows = rowsFor(history, action, ids)
    history.transaction(() => {
      for (const row of rows) history.runs.patch(row.number, this.#stopped(row, action))
    })
    this.#abandon(rows)
    const numbers = rows.map(({ number }) => number)
    this.tellRuns(numbers)
    return numbers
  }

  /** What a stop makes of a row: a run of another process is only wished to stop. */
  #stopped(row: RunRow, action: 'pause' | 'cancel'): RunPatch {
    const status = action === 'cancel' ? 'cancelled' : 'paused'
    if (row.status === 'running' && row.owner !== this.#parts.owner) return { wish: action }
    if (row.status === 'running') return { ...ended(row, this.#secondsOf(row)), status }
    return { status, queue_position: null, wish: null, ...(action === 'cancel' ? { ended_at: Date.now() } : {}) }
  }

  /** How long the attempt at a run has gone on. */
  #secondsOf({ id }: RunRow): number {
    return [...this.#attempts.values()].find(({ row }) => row.id === id)?.secondsSoFar() ?? 0
  }

  #abandon(rows: readonly RunRow[]): void {
    const numbers = new Set(rows.map(({ number }) => number))
    for (const attempt of this.#attempts.values()) if (numbers.has(attempt.row.number)) attempt.abandon()
  }

  /** What other processes asked of our runs, and runs of ours that they took for orphans. */
  heedOthers(): void {
    const { history, owner } = this.#parts
    for (const { row } of [...this.#attempts.values()]) {
      const now = history.runs.find(row.id)
      if (now?.status !== 'running' || now.owner !== owner) this.#abandon([row])
      else if (now.wish !== null) this.#stop(now.wish, [row.id])
    }
  }

  /** Puts a waiting run in front of another, or last. */
  move(id: string, before: string | null): void {
    const { history } = this.#parts
    const [row, other] = [history.runs.find(id), before === null ? null : history.runs.find(before)]
    if (!row || other === undefined) throw new EspalierError('not-found', `There is no run ${row ? before : id}.`)
    if (row.status !== 'queued' || (other && other.status !== 'queued'))
      throw new EspalierError('conflict', 'Only waiting runs have a place in the queue.')
    history.queue.move(row.number, other?.number ?? null)
    this.tellRuns([])
  }

  setPaused(paused: boolean): void {
    this.#parts.history.settings.set(pausedSetting, paused)
    if (!paused) for (const { host } of this.#parts.devices) host.mend()
    this.tellRuns([])
    this.work()
  }

  /** Does one run in this process at once, whatever the queue does; settles when it has ended. */
  async runNow(id: string): Promise<void> {
    const { history, owner, devices } = this.#parts
    const row = history.runs.find(id)
    const free = devices.find(({ device }) => !this.#attempts.has(device.id))
    if (!row) throw new EspalierError('not-found', `There is no run ${id}.`)
    if (row.status === 'running' || row.status === 'done') throw new EspalierError('conflict', `"${row.name}" is ${row.status} already.`)
    if (!free) throw new EspalierError('conflict', 'Every device of this process is busy.')
    await this.#begin(history.queue.claim(row.number, owner, free.device.title, Date.now()), free).over
  }

  /** Runs under way become interrupted; they can be resumed. */
  async close(): Promise<void> {
    const { history, owner, devices } = this.#parts
    this.#closed = true
    this.#news.end()
    const mine = [...this.#attempts.values()]
    history.transaction(() => {
      for (const { row } of mine) {
        const now = history.runs.find(row.id)
        if (now?.status === 'running' && now.owner === owner)
          history.runs.patch(row.number, { ...ended(row, this.#secondsOf(row)), status: 'interrupted' })
      }
      history.owners.leaveQueue(owner)
    })
    for (const attempt of mine) attempt.abandon()
    await Promise.all([...devices.map(({ host }) => host.close()), ...mine.map(({ over }) => over)])
  }
}
