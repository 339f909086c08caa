import { type ErrorMessage, EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Listener } from '#contract/events.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { isAblation } from '#contract/titles.ts'
import { faultOf } from '#db/database.ts'
import type { History } from '#db/history.ts'
import type { RunRow } from '#db/runs/runs.ts'
import { leastRoomBytes } from '#db/writes.ts'
import type { ComputeHost, Job } from './compute/compute-host.ts'
import { adviceFor, isOfProcess, isUnexplained } from './compute/explain-exit.ts'
import type { JobSide } from './compute/job-side.ts'
import { type RunLogs, RunStory } from './run-log.ts'
import { ended, RunRecorder, Stopwatch } from './run-recorder.ts'
import { type AttemptEnvironment, environmentOf } from './run-result.ts'

/** After this many crashes, a run waits for the user. */
export const mostCrashes = 2

/** Downloads a hub file and reports progress. */
export type FetchFile = (file: HubFile, signal: AbortSignal, report: (progress: Progress) => void) => Promise<string>

/** What an attempt at a run needs from the history. */
export interface Claim {
  row: RunRow
  request: RunRequest
  task: ComputeTask
}

interface AttemptParts extends Claim {
  history: History
  logs: RunLogs
  emit: Listener
  host: ComputeHost
  fetchFile: FetchFile
  /** Whether runs that were cut off are resumed automatically. */
  resumesRuns(): boolean
  changed(): void
}

/** Computes a claimed run on a host until its row holds the outcome. What cannot be written yet waits, and the run with it. */
export class RunAttempt {
  readonly row: RunRow
  readonly secondsSoFar: () => number
  /** Resolves when the device is free again. */
  readonly over: Promise<void>
  readonly #parts: AttemptParts
  readonly #recorder: RunRecorder
  readonly #story: RunStory
  readonly #job: Job
  /** The time of the attempt, without that in which it waits for memory. */
  readonly #worked = new Stopwatch()
  #abandoned = false
  /** The reason why an event could not be stored. */
  #refusal: unknown
  /** Whether the compute process found the disk full, so that the run waits for space in the queue. */
  #lacksRoom = false

  constructor(parts: AttemptParts) {
    const { history, logs, emit, host, row, task } = parts
    this.row = row
    this.#parts = parts
    this.secondsSoFar = () => this.#worked.seconds
    this.#recorder = new RunRecorder(history, row, emit, this.secondsSoFar)
    this.#story = new RunStory((text) => logs.append(row.id, text))
    this.#story.begin(row.attempts)
    this.#job = host.perform(task, this.#side)
    this.over = this.#job.result.then(
      (result) => this.#settle(() => (this.#refusal === undefined ? this.#finish(result) : this.#fail(this.#refusal))),
      (thrown) => this.#settle(() => this.#fail(this.#refusal ?? thrown)),
    )
  }

  /** Whether the run is to be attempted again when the disk has space. */
  get lacksRoom(): boolean {
    return this.#lacksRoom
  }

  /** Stops writing for this attempt and asks its process to stop. */
  abandon(): void {
    this.#abandoned = true
    this.#recorder.drop()
    this.#job.cancel()
  }

  get #side(): JobSide {
    const { logs, row, fetchFile } = this.#parts
    const report = (progress: Progress) => this.#abandoned || this.#recorder.event({ type: 'progress', progress })
    return {
      claimant: { id: row.id, title: `the run ${row.name}` },
      onEvent: (event) => this.#hear(event),
      onOutput: (chunk) => logs.append(row.id, chunk),
      onMemoryWait: (waits) => this.#worked.hold(waits),
      getStep: (name) => this.#write(() => this.#recorder.getStep(name)),
      fetchFile: (file, signal) => fetchFile(file, signal, report),
      putStep: (name, value, tensors) => this.#write(() => this.#recorder.putStep(name, value, tensors)),
    }
  }

  /** Does the run's work on the history in order, as soon as it can be written. */
  #write<T>(work: () => T): Promise<T> {
    return this.#parts.history.writes.write(this.row.id, () => {
      if (this.#abandoned) throw new EspalierError('cancelled', 'Cancelled.')
      return work()
    })
  }

  #hear(event: unknown): void {
    if (this.#abandoned || this.#refusal !== undefined) return
    const at = Date.now()
    const keep = () => {
      const kept = this.#recorder.event(event, at)
      if (kept) this.#story.add(kept)
    }
    // Progress comes many times a second and is never waited for.
    const kept = isProgress(event) ? Promise.try(keep) : this.#write(keep)
    kept.catch((thrown: unknown) => {
      if (this.#abandoned) return
      this.#refusal ??= thrown
      this.#job.cancel()
    })
  }

  async #settle(write: () => void): Promise<void> {
    const { history, changed } = this.#parts
    try {
      await this.#write(write)
    } catch (thrown) {
      if (this.#abandoned) return
      const { code, message } = toErrorMessage(thrown)
      const problem = { code, message, advice: null }
      await this.#write(() =>
        history.runs.patch(this.row.number, { ...ended(this.row, this.secondsSoFar()), status: 'failed', problem }),
      ).catch(() => undefined)
    }
    if (!this.#abandoned) changed()
  }

  #finish(result: unknown): void {
    try {
      this.#recorder.finish(result, this.#environment)
      this.#story.end(undefined)
    } catch (thrown) {
      if (faultOf(thrown) !== undefined) throw thrown
      this.#fail(thrown)
    }
  }

  /** Stores an error. A run whose process died becomes interrupted, and a run that raised the error itself has failed. */
  #fail(thrown: unknown): void {
    const { history } = this.#parts
    const failure = toErrorMessage(thrown)
    const { code, message, details } = failure
    if (code === 'disk' && !history.writes.hasRoom(roomForRun(history))) {
      this.#lacksRoom = true
      this.#recorder.putBack()
    } else if (!isUnexplained(failure) || !this.#resume(failure)) {
      const advice = adviceFor(new EspalierError(code, message, details), this.#parts.request.memoryBytes)
      const interrupted = isOfProcess(failure) || code === 'cancelled'
      this.#recorder.fail({ code, message, advice }, interrupted ? 'interrupted' : 'failed', this.#environment)
    }
    this.#story.end(thrown)
  }

  /** Puts a run whose process died back into the queue, unless it has died too often, or the run or the device is not to continue. */
  #resume({ code, message }: ErrorMessage): boolean {
    const { history, host, resumesRuns } = this.#parts
    const now = history.runs.byNumber(this.row.number)
    const crashes = (now?.crashes ?? 0) + 1
    if (now?.from_queue !== 1 || now.wish !== null || host.status === 'broken' || crashes >= mostCrashes || !resumesRuns()) return false
    const problem = { code, message: `${message} The run was resumed automatically.`, advice: null }
    this.#recorder.putBack({ problem, crashes })
    return true
  }

  get #environment(): AttemptEnvironment {
    return environmentOf(this.#parts.host, this.row.device, this.#parts.request)
  }
}

const isProgress = (event: unknown): boolean => typeof event === 'object' && event !== null && 'type' in event && event.type === 'progress'

/** The bytes that should be free before a run begins: what the largest of the latest runs has stored, and some for the history. */
export function roomForRun(history: History): number {
  return history.steps.largestOfLatest() + leastRoomBytes
}

/** Returns what an attempt at a claimed run needs. Throws if the run cannot begin. */
export function prepareAttempt(history: History, row: RunRow, memoryLimit: number | null): Claim {
  const request = { ...(memoryLimit === null ? {} : { memoryBytes: memoryLimit }), ...requestOf(history, row) }
  return { row, request, task: taskOf(history, request) }
}

/** Returns the task for the compute process. An inspection gets the plans of the runs that it inspects. */
function taskOf(history: History, request: RunRequest): ComputeTask {
  if (!request.inspect) return { kind: isAblation(request.method) ? 'ablation' : 'run', request }
  const subjects = request.inspect.runs.map((id) => {
    const row = history.runs.find(id)
    const plan = row && history.documents.plan(row.number)
    if (!row || !plan) throw new EspalierError('not-found', `The run ${id} was deleted or no longer has a plan.`)
    return { run: { id, name: row.name, method: row.method, reached: row.reached }, plan, fingerprint: row.fingerprint }
  })
  return { kind: 'inspection', request, subjects }
}

/** Returns a run's original request, with the model's current path. */
export function requestOf(history: History, row: RunRow): RunRequest {
  const request = history.documents.request(row.number)
  return { ...request, model: history.models.find(row.model)?.path ?? request.model }
}
