import { appendFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type AttemptState, type RunFile, runFile } from '#contract/clusters/run-file.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { explainIssues } from '#contract/explain-issue.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import { reachOfStep } from '#contract/runs/step-names.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { isAblation } from '#contract/titles.ts'
import { version } from '#contract/version.ts'
import { writeWhole } from '#runtime/write-whole.ts'
import type { ComputeHost, Job } from '../compute/compute-host.ts'
import { isOfProcess } from '../compute/explain-exit.ts'
import type { JobSide } from '../compute/job-side.ts'
import type { FetchFile } from '../run-attempt.ts'
import { environmentOf } from '../run-result.ts'
import { hashOf, namesIn, type RunFolder, readStep, runFolderAround, writeStep } from './run-folder.ts'
import { SharedSteps, type SharedTimings } from './shared-steps.ts'

const tellMilliseconds = 1000
/** How often a compute process that died is restarted within one attempt. */
const mostDeaths = 2

interface NodeParts {
  /** Creates the compute process. Its steps write tensors to this folder. */
  hostFor(tensorFolder: string): ComputeHost
  fetchFile: FetchFile
  /** The scheduler's job number. */
  job: string | null
  /** The scheduler's name for the machine. */
  node: string
  device: string
  timings?: Partial<SharedTimings>
}

export interface NodeRun {
  /** Resolves with the outcome when the run has a result or was stopped. */
  over: Promise<'done' | 'failed' | 'stopped'>
  /** Stops at once; finished steps are kept. */
  stop(): void
  /** Steps finished in this attempt. */
  steps(): number
}

/** Computes the run of a request file and writes its output beside it. A later attempt reuses the steps of earlier ones. */
export function performRunFile(file: string, parts: NodeParts): NodeRun {
  return new RunOnNode(file, parts).begin()
}

class RunOnNode {
  readonly #parts: NodeParts
  readonly #runFile: RunFile
  readonly #folder: RunFolder
  readonly #attempt: string
  readonly #shared: SharedSteps
  readonly #host: ComputeHost
  readonly #begun = performance.now()
  readonly #startedAt = Date.now()
  readonly #teller: NodeJS.Timeout
  #progress: Progress | null = null
  #steps = 0
  #stopped = false
  #job: Job | undefined

  constructor(file: string, parts: NodeParts) {
    this.#parts = parts
    this.#folder = runFolderAround(file)
    this.#runFile = readRunFile(file)
    this.#attempt = beginAttempt(this.#folder.attempts)
    this.#shared = new SharedSteps(this.#folder.shared, parts.timings)
    this.#host = parts.hostFor(this.#folder.tensors)
    this.#teller = setInterval(() => this.#tell(), tellMilliseconds)
  }

  begin(): NodeRun {
    this.#tell()
    return { over: this.#perform(), stop: () => this.#stop(), steps: () => this.#steps }
  }

  #stop(): void {
    this.#stopped = true
    this.#job?.cancel()
  }

  async #perform(): Promise<'done' | 'failed' | 'stopped'> {
    try {
      return await this.#compute()
    } finally {
      clearInterval(this.#teller)
      this.#shared.close()
      this.#tell()
      await this.#host.close()
    }
  }

  async #compute(): Promise<'done' | 'failed' | 'stopped'> {
    const { request } = this.#runFile
    for (let deaths = 0; ; deaths++) {
      if (this.#stopped) return 'stopped'
      try {
        this.#job = this.#host.perform({ kind: isAblation(request.method) ? 'ablation' : 'run', request }, this.#side())
        const document = await this.#job.result
        writeWhole(this.#folder.result, JSON.stringify({ status: 'done', document }))
        return 'done'
      } catch (thrown) {
        if (this.#stopped) return 'stopped'
        const error = toErrorMessage(thrown)
        if (isOfProcess(error) && deaths < mostDeaths) continue
        writeWhole(this.#folder.result, JSON.stringify({ status: 'failed', error }))
        return 'failed'
      }
    }
  }

  #side(): JobSide {
    const { fetchFile } = this.#parts
    return {
      onEvent: (event) => this.#take(event as RunEvent),
      onOutput: (chunk) => this.#log(chunk),
      getStep: (name, signal) => this.#getStep(name, signal),
      putStep: (name, value, tensors) => {
        if (isShared(name)) this.#shared.put(name, value, tensors)
        writeStep(this.#fileOf(name), { name, value, ...(tensors ? { tensors } : {}) })
        this.#steps += 1
      },
      fetchFile: (file, signal) => fetchFile(file, signal, (progress) => (this.#progress = progress)),
    }
  }

  async #getStep(name: string, signal: AbortSignal) {
    const own = readStep(this.#fileOf(name), this.#folder.tensors)
    if (own) return own
    if (!isShared(name)) return undefined
    const found = await this.#shared.get(name, signal)
    // Copy a shared step to the run, so that the run's history has it too.
    if (found && !found.tensors) writeStep(this.#fileOf(name), { name, value: found.value })
    return found
  }

  #fileOf(name: string): string {
    return join(this.#folder.steps, `${hashOf(name)}.json`)
  }

  /** Takes an event. Progress is written with the state, and every other event as its own line. */
  #take(event: RunEvent): void {
    if (event.type === 'progress') this.#progress = event.progress
    else this.#append('events.jsonl', `${JSON.stringify({ at: Date.now(), event })}\n`)
  }

  #log(chunk: string): void {
    try {
      this.#append('log.txt', chunk)
    } catch {
      // A failed log write must not stop a run.
    }
  }

  #append(name: string, text: string): void {
    appendFileSync(join(this.#attempt, name), text, { mode: 0o600 })
  }

  #tell(): void {
    const { job, node, device } = this.#parts
    const state: AttemptState = {
      environment: environmentOf(this.#host, device, this.#runFile.request),
      node,
      job,
      startedAt: this.#startedAt,
      aliveAt: Date.now(),
      seconds: (performance.now() - this.#begun) / 1000,
      steps: this.#steps,
      progress: this.#progress,
    }
    try {
      writeWhole(join(this.#attempt, 'state.json'), JSON.stringify(state))
    } catch (thrown) {
      console.error(toErrorMessage(thrown).message)
    }
  }
}

const isShared = (name: string): boolean => reachOfStep(name) === 'shared'

/** Reads a request file. Throws `invalid` if it is not a request, and `conflict` if another version wrote it. */
export function readRunFile(file: string): RunFile {
  const raw = parseJson(file, readFileSync(file, 'utf8'))
  const parsed = runFile.safeParse(raw)
  if (!parsed.success) throw notRequest(file, explainIssues(parsed.error, raw)[0]?.message ?? 'it cannot be read.')
  if (parsed.data.version === version) return parsed.data
  throw new EspalierError(
    'conflict',
    `${file} was written by Espalier ${parsed.data.version}, but this is ${version}. Install the same version on the cluster.`,
  )
}

function parseJson(file: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (thrown) {
    throw notRequest(file, toErrorMessage(thrown).message)
  }
}

function notRequest(file: string, why: string): EspalierError {
  return new EspalierError('invalid', `${file} is not a run request: ${why}`)
}

/** Creates the folder of a new attempt under the next free number. */
function beginAttempt(attempts: string): string {
  mkdirSync(attempts, { recursive: true })
  for (let number = namesIn(attempts).length + 1; ; number++) {
    const folder = join(attempts, String(number).padStart(4, '0'))
    try {
      mkdirSync(folder)
      return folder
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EEXIST') throw thrown
    }
  }
}
