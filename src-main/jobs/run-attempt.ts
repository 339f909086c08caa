import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Listener } from '#contract/events.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { isAblation } from '#contract/titles.ts'
import type { History } from '#db/history.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { ComputeHost, Job } from './compute/compute-host.ts'
import { adviceFor, isOfProcess } from './compute/explain-exit.ts'
import type { JobSide } from './compute/job-side.ts'
import type { RunLogs } from './run-log.ts'
import { RunRecorder, toDiskError } from './run-recorder.ts'
import { type AttemptEnvironment, environmentOf } from './run-result.ts'
import { RunStory } from './run-story.ts'

/** Interval between attempts to store an outcome on a full disk. */
const rewriteMilliseconds = 2000

/** Downloads a hub file and reports progress. */
export type FetchFile = (file: HubFile, signal: AbortSignal, report: (progress: Progress) => void) => Promise<string>

interface AttemptParts {
  history: History
  logs: RunLogs
  emit: Listener
  host: ComputeHost
  row: RunRow
  fetchFile: FetchFile
  changed(): void
}

/** Computes a claimed run on a host until its row holds the outcome. */
export class RunAttempt {
  readonly row: RunRow
  readonly secondsSoFar: () => number
  /** Resolves when the device is free again. */
  readonly over: Promise<void>
  readonly #parts: AttemptParts
  readonly #request: RunRequest
  readonly #recorder: RunRecorder
  readonly #story: RunStory
  readonly #job: Job
  #abandoned = false
  /** The reason why an event could not be stored. */
  #refusal: unknown

  constructor(parts: AttemptParts) {
    const { history, logs, emit, host, row } = parts
    this.row = row
    this.#parts = parts
    this.#request = requestOf(history, row)
    this.#recorder = new RunRecorder(history, row, emit)
    this.secondsSoFar = this.#recorder.secondsSoFar
    this.#story = new RunStory((text) => logs.append(row.id, text))
    this.#story.begin(row.attempts)
    this.#job = host.perform(taskOf(history, this.#request), this.#side)
    this.over = this.#job.result.then(
      (result) => this.#settle(() => (this.#refusal === undefined ? this.#finish(result) : this.#fail(this.#refusal))),
      (thrown) => this.#settle(() => this.#fail(this.#refusal ?? thrown)),
    )
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
      onEvent: (event) => this.#hear(event),
      onOutput: (chunk) => logs.append(row.id, chunk),
      getStep: (name) => this.#recorder.getStep(name),
      fetchFile: (file, signal) => fetchFile(file, signal, report),
      putStep: (name, value, tensors) => {
        if (this.#abandoned) throw new EspalierError('cancelled', 'Cancelled.')
        this.#recorder.putStep(name, value, tensors)
      },
    }
  }

  #hear(event: unknown): void {
    if (this.#abandoned || this.#refusal !== undefined) return
    try {
      this.#recorder.event(event)
      this.#story.tell(event)
    } catch (thrown) {
      this.#refusal = toDiskError(thrown)
      this.#job.cancel()
    }
  }

  async #settle(write: () => void): Promise<void> {
    while (!this.#abandoned) {
      try {
        write()
        return this.#parts.changed()
      } catch {
        // Only a failing disk leads here. The outcome is kept and written when the disk works again.
        await new Promise((resolve) => setTimeout(resolve, rewriteMilliseconds).unref())
      }
    }
  }

  #finish(result: unknown): void {
    this.#story.end(undefined)
    try {
      this.#recorder.finish(result, this.#environment)
    } catch (thrown) {
      if (toDiskError(thrown) !== thrown) throw thrown
      this.#store(thrown)
    }
  }

  #fail(thrown: unknown): void {
    this.#story.end(thrown)
    this.#store(thrown)
  }

  /** Stores an error. A run whose process died becomes interrupted, and a run that raised the error itself has failed. */
  #store(thrown: unknown): void {
    const failure = toErrorMessage(thrown)
    const { code, message, details } = failure
    const advice = adviceFor(new EspalierError(code, message, details), this.#request.memoryBytes)
    const interrupted = isOfProcess(failure) || code === 'cancelled'
    this.#recorder.fail({ code, message, advice }, interrupted ? 'interrupted' : 'failed', this.#environment)
  }

  get #environment(): AttemptEnvironment {
    return environmentOf(this.#parts.host, this.row.device, this.#request)
  }
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
