import { EspalierError } from '#contract/errors.ts'
import type { Listener } from '#contract/events.ts'
import type { DeviceState, QueueState } from '#contract/queue.ts'
import type { History } from '#db/history.ts'
import type { RunRow } from '#db/runs.ts'
import type { ComputeHost } from './compute-host.ts'
import type { Device } from './devices.ts'
import { rowsFor, startOver } from './run-actions.ts'
import { type Attempt, attemptRun, type FetchFile } from './run-attempt.ts'
import type { RunLogs } from './run-log.ts'
import { ended } from './run-recorder.ts'

export interface QueueParts {
  history: History
  logs: RunLogs
  emit: Listener
  owner: string
  devices: readonly { device: Device; host: ComputeHost }[]
  /** False for a process that leaves the queue to others and only does runs that it is told to. */
  worksQueue: boolean
  fetchFile: FetchFile
}

/** Changes of the queue that come together are told together. */
const tellMilliseconds = 50

const pausedSetting = 'queue paused'

export type RunQueue = ReturnType<typeof runQueue>

/** The queue of runs over the devices of this process: the history says what is next, this says who does it. */
export function runQueue({ history, logs, emit, owner, devices, worksQueue, fetchFile }: QueueParts) {
  const attempts = new Map<string, Attempt>()
  const touched = new Set<string>()
  let telling: NodeJS.Timeout | undefined
  let owns = false
  let closed = false

  /** Runs are told at once; the queue and the experiments they belong to together with what follows soon. */
  function tellRuns(numbers: readonly number[]): void {
    for (const run of history.runs.entries(numbers)) {
      emit({ name: 'run changed', data: { run } })
      if (run.experiment) touched.add(run.experiment.id)
    }
    telling ??= setTimeout(tellRest, tellMilliseconds).unref()
  }

  function tellRest(): void {
    telling = undefined
    if (closed) return
    emit({ name: 'queue changed', data: { queue: state() } })
    for (const id of touched) {
      const experiment = history.experiments.find(id)
      if (experiment) emit({ name: 'experiment changed', data: { experiment } })
    }
    touched.clear()
  }

  function state(): QueueState {
    const numbers = [...history.queue.running(), ...history.queue.waiting()].map(({ number }) => number)
    return {
      paused: isPaused(),
      owner: owns,
      devices: devices.map(({ device, host }) => deviceState(device, host)),
      runs: history.runs.entries(numbers),
    }
  }

  function deviceState({ id, title, kind }: Device, host: ComputeHost): DeviceState {
    return { id, title, kind, status: host.status, run: attempts.get(id)?.row.id ?? null, problem: host.problem }
  }

  const isPaused = () => history.settings.get(pausedSetting) === true

  /** Gives waiting runs to free devices. Cheap when there is nothing to do; called after everything that may matter. */
  function work(): void {
    if (closed || !worksQueue) return
    owns = history.owners.takeQueue(owner, Date.now())
    if (!owns || isPaused()) return
    for (const { device, host } of devices) {
      if (attempts.has(device.id) || host.status === 'broken') continue
      const row = history.queue.claimNext(owner, device.title, Date.now())
      if (!row) return
      begin(row, device, host)
    }
  }

  function begin(row: RunRow, device: Device, host: ComputeHost): Attempt {
    const attempt = attemptRun({ history, logs, emit, host, row, fetchFile, changed: () => tellRuns([row.number]) })
    attempts.set(device.id, attempt)
    tellRuns([row.number])
    void attempt.over.then(() => {
      attempts.delete(device.id)
      if (!closed) tellRuns([row.number])
      work()
    })
    return attempt
  }

  function enqueue(action: 'enqueue' | 'resume' | 'retry', ids: readonly string[]): number[] {
    const rows = rowsFor(history, action, ids)
    const numbers = rows.map(({ number }) => number)
    history.transaction(() => {
      if (action === 'retry') for (const row of rows) startOver(history, row)
      history.queue.enqueue(numbers)
    })
    tellRuns(numbers)
    work()
    return numbers
  }

  /** The row says it at once; the process follows, by itself or by force. */
  function stop(action: 'pause' | 'cancel', ids: readonly string[]): number[] {
    const rows = rowsFor(history, action, ids)
    const status = action === 'cancel' ? 'cancelled' : 'paused'
    history.transaction(() => {
      for (const row of rows) {
        if (row.status === 'running' && row.owner !== owner) history.runs.patch(row.number, { wish: action })
        else if (row.status === 'running') history.runs.patch(row.number, { ...ended(row), status })
        else
          history.runs.patch(row.number, {
            status,
            queue_position: null,
            wish: null,
            ...(action === 'cancel' ? { ended_at: Date.now() } : {}),
          })
      }
    })
    abandon(rows)
    tellRuns(rows.map(({ number }) => number))
    return rows.map(({ number }) => number)
  }

  function abandon(rows: readonly RunRow[]): void {
    const numbers = new Set(rows.map(({ number }) => number))
    for (const attempt of attempts.values()) if (numbers.has(attempt.row.number)) attempt.abandon()
  }

  /** What other processes asked of our runs, and runs of ours that they took for orphans. */
  function heedOthers(): void {
    for (const { row } of [...attempts.values()]) {
      const now = history.runs.find(row.id)
      if (now?.status !== 'running' || now.owner !== owner) abandon([row])
      else if (now.wish !== null) stop(now.wish, [row.id])
    }
  }

  return {
    state,
    work,
    heedOthers,
    tellRuns,
    enqueue: (ids: readonly string[]) => enqueue('enqueue', ids),
    resume: (ids: readonly string[]) => enqueue('resume', ids),
    retry: (ids: readonly string[]) => enqueue('retry', ids),
    pause: (ids: readonly string[]) => stop('pause', ids),
    cancel: (ids: readonly string[]) => stop('cancel', ids),
    move(id: string, before: string | null): void {
      const [row, other] = [history.runs.find(id), before === null ? null : history.runs.find(before)]
      if (!row || other === undefined) throw new EspalierError('not-found', `There is no run ${row ? before : id}.`)
      if (row.status !== 'queued' || (other && other.status !== 'queued'))
        throw new EspalierError('conflict', 'Only waiting runs have a place in the queue.')
      history.queue.move(row.number, other?.number ?? null)
      tellRuns([])
    },
    setPaused(paused: boolean): void {
      history.settings.set(pausedSetting, paused)
      if (!paused) for (const { host } of devices) host.mend()
      tellRuns([])
      work()
    },
    /** Does one run in this process at once, whatever the queue does; settles when it has ended. */
    async runNow(id: string): Promise<void> {
      const row = history.runs.find(id)
      const free = devices.find(({ device }) => !attempts.has(device.id))
      if (!row) throw new EspalierError('not-found', `There is no run ${id}.`)
      if (row.status === 'running' || row.status === 'done') throw new EspalierError('conflict', `"${row.name}" is ${row.status} already.`)
      if (!free) throw new EspalierError('conflict', 'Every device of this process is busy.')
      await begin(history.queue.claim(row.number, owner, free.device.title, Date.now()), free.device, free.host).over
    },
    /** Runs under way become interrupted; they can be resumed. */
    async close(): Promise<void> {
      closed = true
      clearTimeout(telling)
      const mine = [...attempts.values()]
      history.transaction(() => {
        for (const { row } of mine) {
          const now = history.runs.find(row.id)
          if (now?.status === 'running' && now.owner === owner) history.runs.patch(row.number, { ...ended(row), status: 'interrupted' })
        }
        history.owners.leaveQueue(owner)
      })
      for (const attempt of mine) attempt.abandon()
      await Promise.all([...devices.map(({ host }) => host.close()), ...mine.map(({ over }) => over)])
    },
  }
}
