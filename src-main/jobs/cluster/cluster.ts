import type { ClusterProfile } from '#contract/clusters/clusters.ts'
import type { RunResult } from '#contract/clusters/run-file.ts'
import { type ErrorCode, EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { History } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { type JobRecord, jobOf, type RunPatch, type RunRow } from '#db/runs/runs.ts'
import { adviceFor } from '../compute/explain-exit.ts'
import { startOverIfAsked } from '../run-actions.ts'
import { batchScript } from './batch-script.ts'
import type { ClusterFiles, TaskOfRun } from './cluster-files.ts'
import { type Command, clusterShell } from './cluster-shell.ts'
import { Slurm, type SlurmTask } from './slurm.ts'
import { documentAsHere, type TakeInParts, type Taken, takeIn, takeSteps } from './take-in.ts'

/** Intervals between readings of the files, and between queries to the scheduler. */
export interface ClusterTimings {
  lookMilliseconds: number
  askMilliseconds: number
}

export const usualClusterTimings: ClusterTimings = { lookMilliseconds: 2000, askMilliseconds: 5000 }

interface ClusterParts extends TakeInParts {
  profile: ClusterProfile
  /** The command that starts `espalier` on a node. */
  program: Command
  files: ClusterFiles
  timings: ClusterTimings
  /** Stops all work. It may be aborted at any point. */
  signal: AbortSignal
  changed(numbers: readonly number[]): void
}

/**
 * Sends runs to one Slurm cluster and follows them. Each turn compares what the history wants with what the cluster has and does what is
 * missing. A turn may be cut short anywhere, so the program can close and the cluster can be unreachable at any time.
 */
export class Cluster {
  readonly #parts: ClusterParts
  readonly #slurm: Slurm
  readonly #rows: ClusterRows
  readonly #knownSteps = new Map<string, Set<string>>()
  readonly #seconds = new Map<string, number>()
  /** How many times in a row the scheduler did not list an expected task. */
  readonly #absences = new Map<string, number>()
  #askedAt = Number.NEGATIVE_INFINITY
  #problem: string | null = null

  constructor(parts: ClusterParts) {
    this.#parts = parts
    this.#slurm = new Slurm(clusterShell(parts.profile.host, parts.signal))
    this.#rows = new ClusterRows(parts.history, parts.changed)
  }

  get name(): string {
    return this.#parts.profile.name
  }

  /** The reason why nothing can be sent or queried at the moment; null if there is none. */
  get problem(): string | null {
    return this.#problem
  }

  secondsOf(run: string): number {
    return this.#seconds.get(run) ?? 0
  }

  /** @param rows the runs of this cluster, in queue order */
  async turn(rows: readonly RunRow[], paused: boolean): Promise<void> {
    try {
      await this.#takeBack(rows)
      await this.#follow(rows.filter(isSent))
      if (!paused) await this.#send(this.#rows.fresh(rows).filter((row) => row.status === 'queued' && !jobOf(row)?.submission))
      this.#become(null)
    } catch (thrown) {
      if (this.#parts.signal.aborted) return
      const { code, message } = toErrorMessage(thrown)
      this.#parts.history.writes.report(thrown)
      this.#become(message)
      if (code === 'internal') console.error(thrown)
    }
  }

  #become(problem: string | null): void {
    if (this.#problem === problem) return
    this.#problem = problem
    this.#parts.changed([])
  }

  /** Cancels jobs of runs that should stop. Their finished work is kept. */
  async #takeBack(rows: readonly RunRow[]): Promise<void> {
    const unwanted = rows.filter((row) => jobOf(row)?.submission && (!isActive(row) || jobOf(row)?.drop))
    if (unwanted.length === 0) return
    const found = await this.#slurm.tasks()
    const ids = unwanted.flatMap((row) => taskOf(jobOf(row) as JobRecord, found) ?? []).map(({ job, task }) => `${job}_${task}`)
    await this.#slurm.cancel(ids)
    await this.#parts.files.pull(unwanted.map(taskOfRun))
    for (const row of this.#rows.fresh(unwanted)) {
      const job = jobOf(row)
      if (!job) continue
      if (!job.drop) takeSteps(this.#parts, row, this.#parts.files.runFolder(row.id), this.#stepsOf(row.id))
      this.#rows.patch(row, { job: job.drop ? null : { ...job, submission: null, id: null } })
      this.#forget(row.id)
    }
  }

  async #send(rows: readonly RunRow[]): Promise<void> {
    if (rows.length === 0) return
    this.#askedAt = Number.NEGATIVE_INFINITY
    await sendRuns({ ...this.#parts, slurm: this.#slurm, rows: this.#rows }, rows)
  }

  async #follow(sent: readonly RunRow[]): Promise<void> {
    if (sent.length === 0) return
    await this.#parts.files.pull(sent.map(taskOfRun))
    const ended = new Set<string>()
    for (const row of sent) if (this.#read(row)) ended.add(row.id)
    if (performance.now() - this.#askedAt < this.#parts.timings.askMilliseconds) return
    const asked = this.#rows.fresh(sent.filter(({ id }) => !ended.has(id))).filter(isSent)
    if (asked.length === 0) return
    try {
      const tasks = await this.#slurm.tasks()
      this.#askedAt = performance.now()
      for (const row of this.#rows.fresh(asked).filter(isSent)) await this.#place(row, taskOf(jobOf(row) as JobRecord, tasks))
    } catch (thrown) {
      for (const row of this.#rows.fresh(asked).filter(isSent)) this.#rows.mark(row, { state: 'lost' })
      throw thrown
    }
  }

  /** Reads what the nodes wrote. Returns whether the run has ended. */
  #read(row: RunRow): boolean {
    const taken = takeIn(this.#parts, row, this.#parts.files.runFolder(row.id), this.#stepsOf(row.id))
    this.#seconds.set(row.id, taken.recorder.secondsSoFar())
    const { state } = taken
    const begun = state !== undefined && (taken.attempts !== row.attempts || row.device === null)
    const device = state && `${this.name}: ${state.node}, ${state.environment.device}`
    if (begun) this.#rows.patch(row, { attempts: taken.attempts, started_at: row.started_at ?? state.startedAt, device })
    else if (taken.news) this.#parts.changed([row.number])
    if (taken.result) this.#end(row, taken, taken.result, device ?? null)
    return taken.result !== undefined
  }

  #end(row: RunRow, { recorder, state }: Taken, result: RunResult, device: string | null): void {
    const { history, files } = this.#parts
    const environment = state?.environment ?? { platform: '', node: '', device: null, memoryBytes: null }
    try {
      if (result.status === 'failed') throw new EspalierError(result.error.code, result.error.message, result.error.details)
      recorder.finish(documentAsHere(files, history, row.id, result.document), { ...environment, device })
    } catch (thrown) {
      const { code, message } = toErrorMessage(thrown)
      if (code === 'disk' && result.status === 'done') throw thrown
      recorder.keepEnvironment({ ...environment, device })
      this.#rows.fail(row, { code, message, status: 'failed' }, this.secondsOf(row.id))
    }
    const job = jobOf(history.runs.find(row.id) ?? row)
    if (job) this.#rows.patch(row, { job: { ...job, submission: null } })
    this.#forget(row.id)
    if (history.runs.find(row.id)?.status === 'done') files.forget(row.id)
  }

  /** Records the scheduler's state of a task, or decides what to do with one that it no longer has. */
  async #place(row: RunRow, task: SlurmTask | undefined): Promise<void> {
    const job = jobOf(row) as JobRecord
    if (task) {
      this.#absences.delete(row.id)
      const running = isRunning(task)
      const state = running ? 'running' : 'waiting'
      this.#rows.mark(
        row,
        { id: `${task.job}_${task.task}`, state, node: task.node, reason: running ? null : task.reason },
        running ? 'running' : 'queued',
      )
      return
    }
    const absences = (this.#absences.get(row.id) ?? 0) + 1
    this.#absences.set(row.id, absences)
    // The result may have been written after the files were read.
    if (absences < 2) return
    this.#absences.delete(row.id)
    if (job.id === null) return this.#rows.patch(row, { job: { ...job, submission: null } })
    const last = (await this.#slurm.remembered(Number(job.id.split('_')[0]))).find((one) => one.task === job.task)
    if (last && isUnderWay(last)) return
    this.#decide(row, job, last?.state)
  }

  #decide(row: RunRow, job: JobRecord, state: string | undefined): void {
    const moved = this.#parts.history.steps.count(row.id) > job.steps
    const verdict = judgeEnd(state, moved, job, this.#parts.files.logOf(job.id as string))
    if ('again' in verdict) {
      this.#rows.patch(row, { status: 'queued', job: { ...job, submission: null, id: null, idle: moved ? 0 : job.idle + 1 } })
      return
    }
    this.#rows.fail(row, verdict, this.secondsOf(row.id))
    this.#rows.patch(row, { job: { ...job, submission: null, idle: 0 } })
    this.#forget(row.id)
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

/** Finds a task by number, or by its submission's name if the number was lost. */
function taskOf({ id, submission, task }: JobRecord, tasks: readonly SlurmTask[]): SlurmTask | undefined {
  return tasks.find((one) => one.task === task && (id === null ? one.name === `espalier-${submission}` : `${one.job}_${one.task}` === id))
}

const isRunning = ({ state }: SlurmTask): boolean => /^(RUNNING|COMPLETING|SUSPENDED|STAGE_OUT|SIGNALING)/.test(state)
const isUnderWay = (task: SlurmTask): boolean => isRunning(task) || /^(PENDING|CONFIGURING|REQUEUE|RESIZING|SPECIAL_EXIT)/.test(task.state)

/** The most tasks in one job array. Clusters allow a thousand by default. More runs are sent as several arrays. */
const mostTasks = 500

const nothingRead: JobRecord['read'] = { attempt: '', events: 0, log: 0 }

interface SendParts {
  history: History
  profile: ClusterProfile
  /** The command that starts `espalier` on a node. */
  program: Command
  files: ClusterFiles
  slurm: Slurm
  rows: ClusterRows
  changed(numbers: readonly number[]): void
}

/** Sends runs as job arrays. Their rows are marked first, so that their jobs can be found again after a crash. */
async function sendRuns(parts: SendParts, rows: readonly RunRow[]): Promise<void> {
  for (let first = 0; first < rows.length; first += mostTasks) await sendArray(parts, rows.slice(first, first + mostTasks))
}

async function sendArray(parts: SendParts, waiting: readonly RunRow[]): Promise<void> {
  const { history, profile, program, files } = parts
  const rows = waiting.map((row) => startOverIfAsked(history, row))
  const submission = newId('sent')
  const runs = rows.map(({ id }) => id)
  // For a run that has not started, anything in its folder is left over from an earlier start.
  const isFresh = (row: RunRow) => row.started_at === null && history.steps.count(row.id) === 0
  history.transaction(() => {
    for (const [task, row] of rows.entries()) {
      const job = { ...sending(parts, row), submission, task }
      history.runs.patch(row.number, { job: isFresh(row) ? { ...job, read: nothingRead } : job })
    }
  })
  parts.changed(rows.map(({ number }) => number))
  for (const row of rows) await files.write(row, isFresh(row))
  await files.push(runs)
  try {
    const job = await parts.slurm.submit(batchScript(profile, { submission, runs, program }))
    for (const row of parts.rows.fresh(rows)) parts.rows.mark(row, { id: `${job}_${jobOf(row)?.task}`, state: 'waiting', reason: null })
  } catch (thrown) {
    const { message } = toErrorMessage(thrown)
    if (isPassing(message)) throw thrown
    refuse(parts, rows, message)
  }
}

/** Returns the job record of a run until the cluster has accepted it. */
function sending({ history, profile }: SendParts, row: RunRow): Omit<JobRecord, 'submission' | 'task'> {
  const { idle = 0, read = nothingRead } = jobOf(row) ?? {}
  return {
    id: null,
    state: 'sending',
    node: null,
    reason: profile.copies ? `copying to ${profile.host}` : null,
    drop: false,
    idle,
    steps: history.steps.count(row.id),
    read,
  }
}

function refuse({ rows: known, profile }: SendParts, rows: readonly RunRow[], why: string): void {
  const message = `The cluster ${profile.name} refused the job. ${why}`
  for (const row of known.fresh(rows)) {
    known.fail(row, { code: 'invalid', message, status: 'failed' }, 0)
    known.mark(row, { submission: null }, 'failed')
  }
}

/** Whether a command failed because the cluster was unreachable, so a retry may succeed. */
function isPassing(message: string): boolean {
  return /contact|connect|timed? ?out|did not answer|temporar|try again|not respond|zero bytes|ssh:|network|resolve|unable to/i.test(
    message,
  )
}

/** Changes the history's rows of runs on a cluster, and reports every change. */
class ClusterRows {
  readonly #history: History
  readonly #changed: (numbers: readonly number[]) => void

  constructor(history: History, changed: (numbers: readonly number[]) => void) {
    this.#history = history
    this.#changed = changed
  }

  /** Reads the rows again, because the user may have changed them while the cluster was queried. */
  fresh(rows: readonly RunRow[]): RunRow[] {
    return rows.flatMap(({ id }) => this.#history.runs.find(id) ?? [])
  }

  patch(row: RunRow, patch: RunPatch): void {
    this.#history.runs.patch(row.number, patch)
    this.#changed([row.number])
  }

  /** Updates a run's stored job. Reports nothing if nothing changed. */
  mark(row: RunRow, changes: Partial<JobRecord>, status: RunPatch['status'] = row.status): void {
    const job = jobOf(row)
    if (!job) return
    const next = { ...job, ...changes }
    if (JSON.stringify(next) !== JSON.stringify(job) || status !== row.status) this.patch(row, { status, job: next })
  }

  /** @param seconds of attempts that the row does not include yet */
  fail(row: RunRow, { code, message, status }: Failure, seconds: number): void {
    const advice = adviceFor(new EspalierError(code, message), this.#history.documents.request(row.number).memoryBytes)
    this.patch(row, {
      status,
      problem: { code, message, advice },
      owner: null,
      wish: null,
      ended_at: Date.now(),
      seconds: (row.seconds ?? 0) + seconds,
    })
  }
}

const taskOfRun = (row: RunRow): TaskOfRun => ({ run: row.id, task: jobOf(row)?.id ?? null })
const isActive = ({ status }: RunRow): boolean => status === 'queued' || status === 'running'

function isSent(row: RunRow): boolean {
  const job = jobOf(row)
  return isActive(row) && job?.drop === false && job.submission !== null
}

/** How many times in a row a run is sent again after a job that finished no step. */
const mostIdle = 2

export interface Failure {
  code: ErrorCode
  message: string
  status: 'failed' | 'interrupted'
}

type Verdict = { again: true } | Failure

/**
 * Decides what happens to a run whose job ended without a result.
 * @param state Slurm's final state; undefined if it has forgotten the job
 * @param moved whether the job finished a step
 * @param log the end of the job's output
 */
export function judgeEnd(state: string | undefined, moved: boolean, { id, idle, node }: JobRecord, log: string): Verdict {
  const lastOutput = log.trim() === '' ? '' : ` Its last output: ${log.trim().slice(-500)}`
  if (state === 'OUT_OF_MEMORY')
    return {
      code: 'out-of-memory',
      message: `The job ${id} used more memory than it requested. Request more in the cluster’s profile.`,
      status: 'failed',
    }
  if (state === 'CANCELLED')
    return { code: 'cancelled', message: `The job ${id} was cancelled on the cluster. Resume to submit it again.`, status: 'interrupted' }
  if (state === 'TIMEOUT' && !moved)
    return {
      code: 'infeasible',
      message: `The job ${id} reached its time limit before finishing a step. Request more time in the cluster’s profile.`,
      status: 'failed',
    }
  if (moved || idle < mostIdle) return { again: true }
  const where = node ? ` on ${node}` : ''
  return {
    code: 'internal',
    message: `The job ${id} ended${where} ${idle + 1} times in a row before finishing a step (${state ?? 'forgotten by the cluster'}).${lastOutput}`,
    status: 'interrupted',
  }
}
