import { EspalierError } from '#contract/errors.ts'
import type { Listener } from '#contract/events.ts'
import type { DeviceState } from '#contract/runs/queue.ts'
import type { History } from '#db/history.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { ComputeHost } from './compute/compute-host.ts'
import type { Device } from './devices.ts'
import type { Executor } from './executor.ts'
import { startOverIfAsked } from './run-actions.ts'
import { type FetchFile, RunAttempt } from './run-attempt.ts'
import type { RunLogs } from './run-log.ts'
import { ended } from './run-recorder.ts'

interface Place {
  readonly device: Device
  readonly host: ComputeHost
  attempt?: RunAttempt
  /** Whether the device is removed as soon as it is free. */
  leaving?: boolean
}

interface MachineParts {
  history: History
  logs: RunLogs
  emit: Listener
  owner: string
  devices: readonly Device[]
  /** Creates the host of a device's compute process. */
  hostFor(device: Device): ComputeHost
  fetchFile: FetchFile
  /** Called with the runs that changed. */
  changed(numbers: readonly number[]): void
  /** Called when there is room for another run. */
  freed(): void
}

/** This machine's devices, each with a compute process that computes one run at a time. */
export class ThisMachine implements Executor {
  readonly #parts: MachineParts
  #places: Place[]
  #closed = false

  constructor(parts: MachineParts) {
    this.#parts = parts
    this.#places = parts.devices.map((device) => this.#placeFor(device))
  }

  get devices(): DeviceState[] {
    return this.#places.map(({ device: { id, title, kind }, host, attempt }) => ({
      id,
      title,
      kind,
      status: host.status,
      run: attempt?.row.id ?? null,
      problem: host.problem,
    }))
  }

  /** The first device's host, for commands that run one task after another. */
  get firstHost(): ComputeHost | undefined {
    return this.#places[0]?.host
  }

  /** Switches to other devices. Current runs keep theirs until they end. */
  setDevices(devices: readonly Device[]): void {
    for (const place of this.#places) place.leaving = true
    this.#places.push(...devices.map((device) => this.#placeFor(device)))
    this.#dropFree()
    this.#parts.freed()
  }

  #placeFor(device: Device): Place {
    return { device, host: this.#parts.hostFor(device) }
  }

  #dropFree(): void {
    const dropped = this.#places.filter(({ leaving, attempt }) => leaving && !attempt)
    this.#places = this.#places.filter((place) => !dropped.includes(place))
    for (const { host } of dropped) void host.close()
  }

  work(paused: boolean): void {
    const { history, owner } = this.#parts
    if (paused) return
    for (const place of this.#places) {
      if (place.attempt || place.leaving || place.host.status === 'broken') continue
      const row = history.queue.claimNext(owner, place.device.title, Date.now())
      if (!row) return
      this.#begin(row, place)
    }
  }

  /** Computes one run now. */
  async runNow(number: number): Promise<void> {
    const { history, owner } = this.#parts
    const free = this.#places.find(({ attempt, leaving }) => !attempt && !leaving)
    if (!free) throw new EspalierError('conflict', 'Every device of this process is busy.')
    await this.#begin(history.queue.claim(number, owner, free.device.title, Date.now()), free).over
  }

  #begin(claimed: RunRow, place: Place): RunAttempt {
    const { history, logs, emit, fetchFile, changed, freed } = this.#parts
    const row = startOverIfAsked(history, claimed)
    const attempt = new RunAttempt({ history, logs, emit, host: place.host, row, fetchFile, changed: () => changed([row.number]) })
    place.attempt = attempt
    changed([row.number])
    void attempt.over.then(() => {
      delete place.attempt
      this.#dropFree()
      if (this.#closed) return
      changed([row.number])
      freed()
    })
    return attempt
  }

  get #attempts(): RunAttempt[] {
    return this.#places.flatMap(({ attempt }) => attempt ?? [])
  }

  secondsOf(run: string): number {
    return this.#attempts.find(({ row }) => row.id === run)?.secondsSoFar() ?? 0
  }

  abandon(rows: readonly Pick<RunRow, 'number'>[]): void {
    const numbers = new Set(rows.map(({ number }) => number))
    for (const attempt of this.#attempts) if (numbers.has(attempt.row.number)) attempt.abandon()
  }

  /** Abandons runs that other processes have taken over, and returns our runs that another process wants to stop. */
  heedOthers(): { row: RunRow; wish: NonNullable<RunRow['wish']> }[] {
    return this.#attempts.flatMap(({ row }) => {
      const now = this.#parts.history.runs.find(row.id)
      if (now?.status === 'running' && now.owner === this.#parts.owner) return now.wish === null ? [] : [{ row: now, wish: now.wish }]
      this.abandon([row])
      return []
    })
  }

  allowRetries(): void {
    for (const { host } of this.#places) host.allowRetries()
  }

  /** Interrupts the current runs. They can be resumed. */
  async close(): Promise<void> {
    const { history, owner } = this.#parts
    this.#closed = true
    const [places, mine] = [[...this.#places], this.#attempts]
    history.transaction(() => {
      for (const { row, secondsSoFar } of mine) {
        const now = history.runs.find(row.id)
        if (now?.status === 'running' && now.owner === owner)
          history.runs.patch(row.number, { ...ended(row, secondsSoFar()), status: 'interrupted', cut_off: row.from_queue, crashes: 0 })
      }
    })
    for (const attempt of mine) attempt.abandon()
    await Promise.all([...places.map(({ host }) => host.close()), ...mine.map(({ over }) => over)])
  }
}
