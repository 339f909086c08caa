import type { ClusterProfile } from '#contract/clusters.ts'
import { type ErrorCode, EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { RunDocument } from '#contract/run.ts'
import type { RunResult } from '#contract/run-file.ts'
import { newId } from '#db/ids.ts'
import { type JobRecord, jobOf } from '#db/jobs.ts'
import type { RunPatch, RunRow } from '#db/runs.ts'
import { adviceFor } from '../explain-exit.ts'
import { batchScript } from './batch-script.ts'
import type { ClusterFiles, TaskOfRun } from './cluster-files.ts'
import { type Command, clusterShell } from './cluster-shell.ts'
import { judgeEnd } from './judge-end.ts'
import { type Slurm, type SlurmTask, slurm } from './slurm.ts'
import { keepTensors, type TakeInParts, type Taken, takeIn, takeSteps } from './take-in.ts'

/** Between two looks at the files, and between two questions to the scheduler. */
export interface ClusterTimings {
  lookMilliseconds: number
  askMilliseconds: number
}

export const usualClusterTimings: ClusterTimings = { lookMilliseconds: 2000, askMilliseconds: 5000 }

/** More tasks than this in one array are sent as several; clusters allow a thousand by default. */
const mostTasks = 500

export interface ClusterParts extends TakeInParts {
  profile: ClusterProfile
  /** The command that starts `espalier` on a node. */
  program: Command
  files: ClusterFiles
  timings: ClusterTimings
  /** Ends what is under way, at any place. */
  signal: AbortSignal
  changed(numbers: readonly number[]): void
}

/**
 * Sends runs to one Slurm cluster and follows them. Each turn compares what the history wants with what the cluster has and does what
 * is missing: nothing depends on a turn having come to its end, so that this program may be closed, and the cluster be out of reach, at
 * any time.
 */
export class Cluster {
  readonly #parts: ClusterParts
  readonly #slurm: Slurm
  readonly #knownSteps = new Map<string, Set<string>>()
  readonly #seconds = new Map<string, number>()
  /** How often in a row the scheduler did not name a task that it should have. */
  readonly #absences = new Map<string, number>()
  #askedAt = Number.NEGATIVE_INFINITY
  #problem: string | null = null

  constructor(parts: ClusterParts) {
    this.#parts = parts
    this.#slurm = slurm(clusterShell(parts.profile.host, parts.signal))
  }

  get name(): string {
    return this.#parts.profile.name
  }

  /** Why nothing can be sent or asked at present. */
  get problem(): string | null {
    return this.#problem
  }

  secondsOf(run: string): number {
    return this.#seconds.get(run) ?? 0
  }

  /** @param rows the runs that name this cluster, in the order of the queue */
  async turn(rows: readonly RunRow[], paused: boolean): Promise<void> {
    try {
      await this.#takeBack(rows)
      await this.#follow(rows.filter(isSent))
      if (!paused) await this.#send(this.#fresh(rows).filter((row) => row.status === 'queued' && !jobOf(row)?.submission))
      this.#become(null)
    } catch (thrown) {
      if (this.#parts.signal.aborted) return
      const { code, message } = toErrorMessage(thrown)
      this.#become(message)
      if (code === 'internal') console.error(thrown)
    }
  }

  #become(problem: string | null): void {
    if (this.#problem === problem) return
    this.#problem = problem
    this.#parts.changed([])
  }

  /** The rows as they are now: a person may have changed them while the cluster was asked. */
  #fresh(rows: readonly RunRow[]): RunRow[] {
    return rows.flatMap(({ id }) => this.#parts.history.runs.find(id) ?? [])
  }

  /** Cancels jobs of runs that are not to go on. What they had done is kept. */
  async #takeBack(rows: readonly RunRow[]): Promise<void> {
    const unwanted = rows.filter((row) => jobOf(row)?.submission && (!isActive(row) || jobOf(row)?.drop))
    if (unwanted.length === 0) return
    const found = await this.#slurm.tasks()
    const ids = unwanted.flatMap((row) => taskOf(jobOf(row) as JobRecord, found) ?? []).map(({ job, task }) => `${job}_${task}`)
    await this.#slurm.cancel(ids)
    await this.#parts.files.pull(unwanted.map(taskOfRun))
    for (const row of this.#fresh(unwanted)) {
      const job = jobOf(row)
      if (!job) continue
      if (!job.drop) takeSteps(this.#parts, row, this.#parts.files.runFolder(row.id), this.#stepsOf(row.id))
      this.#patch(row, { job: job.drop ? null : { ...job, submission: null, id: null } })
      this.#forget(row.id)
    }
  }

  async #follow(sent: readonly RunRow[]): Promise<void> {
    if (sent.length === 0) return
    await this.#parts.files.pull(sent.map(taskOfRun))
    const ended = new Set<string>()
    for (const row of sent) if (this.#read(row)) ended.add(row.id)
    if (performance.now() - this.#askedAt < this.#parts.timings.askMilliseconds) return
    const asked = this.#fresh(sent.filter(({ id }) => !ended.has(id))).filter(isSent)
    if (asked.length === 0) return
    try {
      const tasks = await this.#slurm.tasks()
      this.#askedAt = performance.now()
      for (const row of this.#fresh(asked).filter(isSent)) await this.#place(row, taskOf(jobOf(row) as JobRecord, tasks))
    } catch (thrown) {
      for (const row of this.#fresh(asked).filter(isSent)) this.#mark(row, { state: 'lost' })
      throw thrown
    }
  }

  /** Takes in what the nodes wrote; says whether the run has ended. */
  #read(row: RunRow): boolean {
    const taken = takeIn(this.#parts, row, this.#parts.files.runFolder(row.id), this.#stepsOf(row.id))
    this.#seconds.set(row.id, taken.recorder.secondsSoFar())
    const { state } = taken
    const begun = state !== undefined && (taken.attempts !== row.attempts || row.device === null)
    const device = state && `${this.name}: ${state.node}, ${state.environment.device}`
    if (begun) this.#patch(row, { attempts: taken.attempts, started_at: row.started_at ?? state.startedAt, device })
    else if (taken.news) this.#parts.changed([row.number])
    if (taken.result) this.#end(row, taken, taken.result, device ?? null)
    return taken.result !== undefined
  }

  #end(row: RunRow, { recorder, state }: Taken, result: RunResult, device: string | null): void {
    const { history } = this.#parts
    const environment = state?.environment ?? { platform: '', node: '', device: null, memoryBytes: null }
    try {
      if (result.status === 'failed') throw new EspalierError(result.error.code, result.error.message, result.error.details)
      recorder.finish(this.#asHere(row.id, result.document), { ...environment, device })
    } catch (thrown) {
      const { code, message } = toErrorMessage(thrown)
      if (code === 'disk' && result.status === 'done') throw thrown
      this.#fail(row, code, message, 'failed')
    }
    const job = jobOf(history.runs.find(row.id) ?? row)
    if (job) this.#patch(row, { job: { ...job, submission: null } })
    this.#forget(row.id)
    if (history.runs.find(row.id)?.status === 'done') this.#parts.files.forget(row.id)
  }

  /** The document with places as they are called here, and its files of tensors among the history's own. */
  #asHere(run: string, document: unknown): unknown {
    const { files, history } = this.#parts
    const settled = structuredClone(document) as Partial<RunDocument>
    for (const data of [settled.calibration, settled.repair?.calibration, ...(settled.evaluation ?? [])])
      for (const one of [data, ...(data?.parts ?? [])]) if (one) one.source = files.placed(run, one.source)
    const { plan } = settled
    if (plan?.tensors) plan.tensors = plan.tensors.map((file) => keepTensors(history, { ...file, file: files.placed(run, file.file) }))
    return settled
  }

  /** Writes down what the scheduler says of a task; decides what to do with one that it no longer has. */
  async #place(row: RunRow, task: SlurmTask | undefined): Promise<void> {
    const job = jobOf(row) as JobRecord
    if (task) {
      this.#absences.delete(row.id)
      const running = isRunning(task)
      const state = running ? 'running' : 'waiting'
      this.#mark(
        row,
        { id: `${task.job}_${task.task}`, state, node: task.node, reason: running ? null : task.reason },
        running ? 'running' : 'queued',
      )
      return
    }
    const absences = (this.#absences.get(row.id) ?? 0) + 1
    this.#absences.set(row.id, absences)
    // The result may have been written after the files were looked at.
    if (absences < 2) return
    this.#absences.delete(row.id)
    if (job.id === null) return this.#patch(row, { job: { ...job, submission: null } })
    const last = (await this.#slurm.remembered(Number(job.id.split('_')[0]))).find((one) => one.task === job.task)
    if (last && isUnderWay(last)) return
    this.#decide(row, job, last?.state)
  }

  #decide(row: RunRow, job: JobRecord, state: string | undefined): void {
    const moved = this.#parts.history.steps.count(row.id) > job.steps
    const verdict = judgeEnd(state, moved, job, this.#parts.files.logOf(job.id as string))
    if ('again' in verdict) {
      this.#patch(row, { status: 'queued', job: { ...job, submission: null, id: null, idle: moved ? 0 : job.idle + 1 } })
      return
    }
    this.#fail(row, verdict.code, verdict.message, verdict.status)
    this.#patch(row, { job: { ...job, submission: null, idle: 0 } })
    this.#forget(row.id)
  }

  #fail(row: RunRow, code: ErrorCode, message: string, status: 'failed' | 'interrupted'): void {
    const { history } = this.#parts
    const advice = adviceFor(new EspalierError(code, message), history.documents.request(row.number).memoryBytes)
    history.runs.patch(row.number, {
      status,
      problem: { code, message, advice },
      owner: null,
      wish: null,
      ended_at: Date.now(),
      seconds: (row.seconds ?? 0) + this.secondsOf(row.id),
    })
    this.#parts.changed([row.number])
  }

  /** Sends runs as arrays. They are marked before, so that a job of theirs is found again whatever happens in between. */
  async #send(rows: readonly RunRow[]): Promise<void> {
    for (let at = 0; at < rows.length; at += mostTasks) await this.#sendTogether(rows.slice(at, at + mostTasks))
  }

  async #sendTogether(rows: readonly RunRow[]): Promise<void> {
    const { history, profile, program, files, changed } = this.#parts
    const submission = newId('sent')
    const numbers = rows.map(({ number }) => number)
    // Whatever lies in the folder of a run that has not begun is of an earlier life of it.
    const isFresh = (row: RunRow) => row.started_at === null && history.steps.count(row.id) === 0
    const nothing = { attempt: '', events: 0, log: 0 }
    history.transaction(() => {
      for (const [task, row] of rows.entries()) {
        const { idle = 0, read = nothing } = jobOf(row) ?? {}
        const job = {
          id: null,
          state: 'sending',
          node: null,
          reason: profile.copies ? `copying to ${profile.host}` : null,
          submission,
          task,
          drop: false,
          idle,
          steps: history.steps.count(row.id),
          read: isFresh(row) ? nothing : read,
        } as const
        history.runs.patch(row.number, { job })
      }
    })
    changed(numbers)
    for (const row of rows) await files.write(row, isFresh(row))
    await files.push(rows.map(({ id }) => id))
    this.#askedAt = Number.NEGATIVE_INFINITY
    try {
      const job = await this.#slurm.submit(batchScript(profile, { submission, runs: rows.map(({ id }) => id), program }))
      for (const row of this.#fresh(rows)) this.#mark(row, { id: `${job}_${jobOf(row)?.task}`, state: 'waiting', reason: null })
    } catch (thrown) {
      const { message } = toErrorMessage(thrown)
      if (isPassing(message)) throw thrown
      for (const row of this.#fresh(rows)) {
        this.#fail(row, 'invalid', `The cluster ${this.name} refused the job. ${message}`, 'failed')
        this.#patch(row, { job: { ...(jobOf(row) as JobRecord), submission: null } })
      }
    }
  }

  #mark(row: RunRow, changes: Partial<JobRecord>, status: RunPatch['status'] = row.status): void {
    const job = jobOf(row)
    if (!job) return
    const next = { ...job, ...changes }
    if (JSON.stringify(next) !== JSON.stringify(job) || status !== row.status) this.#patch(row, { status, job: next })
  }

  #patch(row: RunRow, patch: RunPatch): void {
    this.#parts.history.runs.patch(row.number, patch)
    this.#parts.changed([row.number])
  }

  #stepsOf(run: string): Set<string> {
    const known = this.#knownSteps.get(run) ?? new Set<string>()
    this.#knownSteps.set(run, known)
    return known
  }

  #forget(run: string): void {
    for (const memory of [this.#knownSteps, this.#seconds, this.#absences]) memory.delete(run)
  }
}

const taskOfRun = (row: RunRow): TaskOfRun => ({ run: row.id, task: jobOf(row)?.id ?? null })
const isActive = ({ status }: RunRow): boolean => status === 'queued' || status === 'running'

function isSent(row: RunRow): boolean {
  const job = jobOf(row)
  return isActive(row) && job?.drop === false && job.submission !== null
}

/** By its number, or by the name of its submission where the number was lost. */
function taskOf({ id, submission, task }: JobRecord, tasks: readonly SlurmTask[]): SlurmTask | undefined {
  return tasks.find((one) => one.task === task && (id === null ? one.name === `espalier-${submission}` : `${one.job}_${one.task}` === id))
}

const isRunning = ({ state }: SlurmTask): boolean => /^(RUNNING|COMPLETING|SUSPENDED|STAGE_OUT|SIGNALING)/.test(state)
const isUnderWay = (task: SlurmTask): boolean => isRunning(task) || /^(PENDING|CONFIGURING|REQUEUE|RESIZING|SPECIAL_EXIT)/.test(task.state)

/** Whether a command failed because the cluster was not to be reached, so that it may work later. */
function isPassing(message: string): boolean {
  return /contact|connect|timed? ?out|did not answer|temporar|try again|not respond|zero bytes|ssh:|network|resolve|unable to/i.test(
    message,
  )
}
