import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Listener } from '#contract/events.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { Progress } from '#contract/runs/progress.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { isAblation } from '#contract/titles.ts'
import type { History } from '#db/history.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { ComputeHost, Job } from './compute-host.ts'
import { adviceFor, isOfProcess } from './explain-exit.ts'
import type { RunLogs } from './run-log.ts'
import { type AttemptEnvironment, type RunRecorder, runRecorder, toDiskError } from './run-recorder.ts'
import { RunStory } from './run-story.ts'

/** Interval of retries when a full disk refused an outcome. */
const rewriteMilliseconds = 2000

export interface Attempt {
  row: RunRow
  secondsSoFar(): number
  /** Stops writing for this attempt and asks its process to stop. */
  abandon(): void
  /** Settles when the device is free again. */
  over: Promise<void>
}

/** Downloads a hub file and reports progress. */
export type FetchFile = (file: HubFile, signal: AbortSignal, report: (progress: Progress) => void) => Promise<string>

export interface AttemptParts {
  history: History
  logs: RunLogs
  emit: Listener
  host: ComputeHost
  row: RunRow
  fetchFile: FetchFile
  changed(): void
}

/** Runs a claimed run on a host until its row holds the outcome. */
export function attemptRun({ history, logs, emit, host, row, fetchFile, changed }: AttemptParts): Attempt {
  const recorder = runRecorder(history, row, emit)
  let abandoned = false
  let refusal: unknown
  const request = requestOf(history, row)
  const story = new RunStory((text) => logs.append(row.id, text))
  story.begin(row.attempts)
  const job: Job = host.perform(taskOf(history, request), {
    onEvent(event) {
      if (abandoned || refusal !== undefined) return
      try {
        recorder.event(event)
        story.tell(event)
      } catch (thrown) {
        refusal = toDiskError(thrown)
        job.cancel()
      }
    },
    onOutput: (chunk) => logs.append(row.id, chunk),
    getStep: recorder.getStep,
    fetchFile: (file, signal) => fetchFile(file, signal, (progress) => abandoned || recorder.event({ type: 'progress', progress })),
    putStep(name, value, tensors) {
      if (abandoned) throw new EspalierError('cancelled', 'Cancelled.')
      recorder.putStep(name, value, tensors)
    },
  })
  const environment = () => ({
    platform: `${process.platform} ${process.arch}`,
    node: host.node ?? process.version,
    device: row.device,
    memoryBytes: request.memoryBytes ?? null,
  })
  const over = job.result.then(
    (result) =>
      settle(() => {
        story.end(refusal)
        return refusal === undefined
          ? finishOrFail(recorder, result, environment(), request)
          : fail(recorder, refusal, request, environment())
      }),
    (thrown) =>
      settle(() => {
        story.end(refusal ?? thrown)
        fail(recorder, refusal ?? thrown, request, environment())
      }),
  )

  async function settle(write: () => void): Promise<void> {
    while (!abandoned) {
      try {
        write()
        return changed()
      } catch {
        // Only a failing disk leads here. The outcome is kept and written when there is space.
        await new Promise((resolve) => setTimeout(resolve, rewriteMilliseconds).unref())
      }
    }
  }

  return {
    row,
    over,
    secondsSoFar: recorder.secondsSoFar,
    abandon() {
      abandoned = true
      recorder.drop()
      job.cancel()
    },
  }
}

/** The task for the compute process. An inspection gets the plans of the runs it inspects. */
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

/** The original request, with the model's current path. */
export function requestOf(history: History, row: RunRow): RunRequest {
  const request = history.documents.request(row.number)
  return { ...request, model: history.models.find(row.model)?.path ?? request.model }
}

function finishOrFail(recorder: RunRecorder, result: unknown, environment: AttemptEnvironment, request: RunRequest): void {
  try {
    recorder.finish(result, environment)
  } catch (thrown) {
    if (toDiskError(thrown) !== thrown) throw thrown
    fail(recorder, thrown, request, environment)
  }
}

/** A process that dies interrupts its run; an error of the run itself fails it. */
function fail(recorder: RunRecorder, thrown: unknown, { memoryBytes }: RunRequest, environment: AttemptEnvironment): void {
  const message = toErrorMessage(thrown)
  const error = new EspalierError(message.code, message.message, message.details)
  const interrupted = isOfProcess(message) || message.code === 'cancelled'
  recorder.fail(
    { code: message.code, message: message.message, advice: adviceFor(error, memoryBytes) },
    interrupted ? 'interrupted' : 'failed',
    environment,
  )
}
