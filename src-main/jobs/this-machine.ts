import { execFile } from 'node:child_process'
import { cpus, totalmem } from 'node:os'
import { promisify } from 'node:util'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Listener } from '#contract/events.ts'
import type { DeviceState } from '#contract/runs/queue.ts'
import { plural } from '#contract/words.ts'
import { faultOf } from '#db/database.ts'
import type { History } from '#db/history.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { ownThreads } from '#runtime/threads.ts'
import { visibleGpus } from '#runtime/visible-gpus.mjs'
import type { ComputeHost } from './compute/compute-host.ts'
import type { Executor } from './executor.ts'
import { startOverIfAsked } from './run-actions.ts'
import { type Claim, type FetchFile, prepareAttempt, RunAttempt } from './run-attempt.ts'
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
  /** The memory that the user gives to the workbench; null for the default. */
  memoryLimit(): number | null
  /** Whether runs that were cut off are resumed automatically. */
  resumesRuns(): boolean
  /** Called with the runs that changed. */
  changed(numbers: readonly number[]): void
  /** Called with a run of the queue whose attempt has ended. Returns whether that stopped the queue. */
  ended(number: number): boolean
  /** Called when there is room for another run. */
  freed(): void
}

/** This machine's devices, each with a compute process that computes one run at a time. */
/** The memory of a run on a slot of the processor: slots share what the setting allows. */
export const shareOfSlot = (bytes: number, devices: readonly Pick<Device, 'kind'>[]): number =>
  Math.floor(bytes / devices.filter(({ kind }) => kind === 'cpu').length)

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

  /** A paused queue begins no run, but analyses: they take seconds, and their page waits for them. */
  work(paused: boolean): void {
    const kind = paused ? 'analysis' : 'run'
    const take = (device: string) => this.#parts.history.queue.claimNext(this.#parts.owner, device, Date.now(), kind)
    for (const place of this.#places) {
      if (place.attempt || place.leaving || place.host.status === 'broken') continue
      let claim = this.#claim(take, place)
      while (claim?.failed) {
        if (this.#parts.ended(claim.row.number)) return
        claim = this.#claim(take, place)
      }
      if (!claim) return
      this.#begin(claim, place)
    }
  }

  /** Computes one run now. A full disk is waited for. */
  async runNow(number: number): Promise<void> {
    const { history, owner } = this.#parts
    for (;;) {
      const free = this.#places.find(({ attempt, leaving }) => !attempt && !leaving)
      if (!free) throw new EspalierError('conflict', 'Every device of this process is busy.')
      const claim = await history.writes.write('claims', () =>
        this.#claim((device) => {
          history.owners.keep(owner, Date.now())
          return history.queue.claim(number, owner, device, Date.now())
        }, free),
      )
      const attempt = claim && !claim.failed ? this.#begin(claim, free) : undefined
      await attempt?.over
      if (!attempt?.lacksRoom) return
      await history.writes.clear(Number.POSITIVE_INFINITY)
    }
  }

  /**
   * Claims a run in one transaction with all that its attempt needs, so that none is left behind claimed. A run that cannot begin fails with
   * the reason.
   */
  #claim(
    take: (device: string) => RunRow | undefined,
    { device }: Place,
  ): (Claim & { failed?: never }) | { row: RunRow; failed: true } | undefined {
    const { history, changed } = this.#parts
    const claim = history.transaction(() => {
      const taken = take(device.title)
      if (!taken) return undefined
      const row = startOverIfAsked(history, taken)
      try {
        return prepareAttempt(history, row, this.#limitOf(device))
      } catch (thrown) {
        if (faultOf(thrown) !== undefined) throw thrown
        const { code, message } = toErrorMessage(thrown)
        history.runs.patch(row.number, { ...ended(row, 0), status: 'failed', problem: { code, message, advice: null } })
        return { row, failed: true as const }
      }
    })
    if (claim && 'failed' in claim) changed([claim.row.number])
    return claim
  }

  /**
   * The memory budget of a run without one of its own: its share for a slot of the processor, null for the default. The setting does not
   * limit the memory of GPUs.
   */
  #limitOf({ kind }: Device): number | null {
    const bytes = kind === 'cpu' ? this.#parts.memoryLimit() : null
    return bytes && shareOfSlot(bytes, this.devices)
  }

  #begin(claim: Claim, place: Place): RunAttempt {
    const { history, logs, emit, fetchFile, resumesRuns, changed, freed } = this.#parts
    const { number } = claim.row
    const attempt = new RunAttempt({
      ...{ ...claim, history, logs, emit, host: place.host, fetchFile, resumesRuns },
      changed: () => changed([number]),
    })
    place.attempt = attempt
    changed([number])
    void attempt.over.then(() => {
      delete place.attempt
      this.#dropFree()
      if (this.#closed) return
      changed([number])
      if (claim.row.from_queue === 1) history.writes.guard(() => this.#parts.ended(number))
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
  takeWishesOfOthers(): { row: RunRow; wish: NonNullable<RunRow['wish']> }[] {
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
    const interrupt = () =>
      history.transaction(() => {
        for (const { row, secondsSoFar } of mine) {
          const now = history.runs.find(row.id)
          if (now?.status === 'running' && now.owner === owner)
            history.runs.patch(row.number, { ...ended(row, secondsSoFar()), status: 'interrupted', cut_off: row.from_queue, crashes: 0 })
        }
      })
    history.writes.later('closing', interrupt)
    for (const attempt of mine) attempt.abandon()
    await Promise.all([...places.map(({ host }) => host.close()), ...mine.map(({ over }) => over)])
  }
}

/** Where a run can compute: an NVIDIA GPU, or a share of the processor. */
export interface Device {
  id: string
  title: string
  kind: 'gpu' | 'cpu'
  /** Restricts a process to this device. */
  environment: Record<string, string>
}

/** Finds the GPUs that this program may use: the machine's NVIDIA GPUs, limited by `CUDA_VISIBLE_DEVICES` if set. */
export async function findGpus(environment: NodeJS.ProcessEnv = process.env): Promise<Device[]> {
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', ['--query-gpu=index,uuid,name', '--format=csv,noheader'], { timeout: 5000 })
    return parseDevices(stdout, environment.CUDA_VISIBLE_DEVICES)
  } catch {
    return []
  }
}

/** Returns the processor as one device. */
export function processorDevice(): Device {
  const model = cpus()[0]?.model.trim() || process.arch
  return { id: 'cpu', title: `${model}, ${cpus().length} threads`, kind: 'cpu', environment: {} }
}

/**
 * Splits the processor between runs that compute at the same time. Each slot gets an equal share of the threads and the memory.
 * @param slots as configured; null for the default: one slot without a GPU, none with one
 */
export function processorSlots(slots: number | null, gpus: number): Device[] {
  // A run on the processor must not see the GPUs that other runs use.
  const withoutGpus: Record<string, string> = gpus > 0 ? { CUDA_VISIBLE_DEVICES: '' } : {}
  const count = slots ?? (gpus > 0 ? 0 : 1)
  if (count === 1) return [{ ...processorDevice(), environment: withoutGpus }]
  const threads = Math.max(1, Math.floor(ownThreads() / count))
  const share = { ...withoutGpus, TF_NUM_INTRAOP_THREADS: String(threads), ESPALIER_MEMORY: String(Math.floor(totalmem() / count)) }
  return Array.from({ length: count }, (_, index) => ({
    id: `cpu-${index + 1}`,
    title: `CPU slot ${index + 1} of ${count}, ${plural(threads, 'thread')}`,
    kind: 'cpu',
    environment: share,
  }))
}

/**
 * Parses `0, GPU-1234, NVIDIA L4` lines. GPUs are counted in bus order, as CUDA is configured to do.
 * @param visible indices or UUID prefixes, as in `CUDA_VISIBLE_DEVICES`; CUDA ignores the first unknown entry and everything after it
 */
export function parseDevices(lines: string, visible?: string): Device[] {
  const all = lines
    .split('\n')
    .map((line) => /^\s*(\d+)\s*,\s*([^,\s]+)\s*,\s*(.+?)\s*$/.exec(line))
    .flatMap((match) => (match ? [{ index: match[1] as string, uuid: match[2] as string, name: match[3] as string }] : []))
  return visibleGpus(all, visible).map(({ index, name }) => ({
    id: `gpu-${index}`,
    title: name,
    kind: 'gpu',
    environment: { CUDA_DEVICE_ORDER: 'PCI_BUS_ID', CUDA_VISIBLE_DEVICES: index },
  }))
}
