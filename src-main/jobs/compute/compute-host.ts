import { availableParallelism, loadavg } from 'node:os'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import { type ComputeTask, type FromCompute, type ToCompute, toCompute } from '#contract/machine/compute-messages.ts'
import type { DeviceState } from '#contract/runs/queue.ts'
import { AwakeTimeout, type ComputeCommand, type ComputeProcess, startComputeProcess, stoppedMilliseconds } from './compute-process.ts'
import { explainDeadline, explainError, isLimit } from './explain-exit.ts'
import { answerQuestion, type JobSide, type Question } from './job-side.ts'
import type { MemoryBudget } from './memory-budget.ts'

export interface HostTimings {
  handshakeMilliseconds: number
  /** Time between asking a job to stop and killing its process. */
  graceMilliseconds: number
  /** A process without messages for this long is considered hung. One tensor operation may block it for minutes. */
  silenceMilliseconds: number
  /** A check that is this late means that this process was stopped, for example while the computer slept. */
  stoppedMilliseconds: number
}

export const usualTimings: HostTimings = {
  handshakeMilliseconds: 30_000,
  graceMilliseconds: 1500,
  silenceMilliseconds: 600_000,
  stoppedMilliseconds,
}

interface HostOptions {
  command: ComputeCommand
  environment: Record<string, string>
  /** Where steps write tensor files. */
  tensorFolder: string
  timings?: Partial<HostTimings>
  /** What the process shares with others. Without it, every claim is granted. */
  memory?: MemoryBudget
  /** How long to keep an idle process; read whenever it becomes idle. */
  idleMilliseconds?(): number
  onChange?(): void
}

export interface Job {
  result: Promise<unknown>
  /** Asks one column or the whole job to stop. If the whole job does not stop, its process is killed. A waiting job ends at once. */
  cancel(column?: number): void
  /** Holds back the events of a running job, or lets them continue. */
  hold(held: boolean): void
}

interface Asked {
  readonly number: number
  readonly side: JobSide
  /** Aborted when the job was asked to stop. */
  readonly cancelling: AbortController
}

interface Current extends Asked {
  resolve(value: unknown): void
  reject(error: EspalierError): void
}

/** A job before its turn. */
interface Waiting extends Asked, PromiseWithResolvers<unknown> {
  readonly task: ComputeTask
}

/** A process asks for memory before it opens a model. */
type MemoryQuestion = Extract<FromCompute, { type: 'claim memory' }>

const cancelled = () => new EspalierError('cancelled', 'Cancelled.')

/** Runs jobs one after another in a compute process, which is started on demand, watched, and ended when idle. */
export class ComputeHost {
  readonly #timings: HostTimings
  readonly #tensorFolder: string
  readonly #memory: MemoryBudget | undefined
  readonly #idleMilliseconds: () => number
  readonly #child: ComputeChild
  readonly #watch: NodeJS.Timeout
  #current: Current | undefined
  #jobs = 0
  readonly #waiting: Waiting[] = []
  #isBusy = false
  #heardAt = 0
  #checkedAt = performance.now()
  #idle: NodeJS.Timeout | undefined
  #overdue: AwakeTimeout | undefined

  constructor({ command, environment, tensorFolder, timings, memory, idleMilliseconds, onChange }: HostOptions) {
    this.#timings = { ...usualTimings, ...timings }
    this.#tensorFolder = tensorFolder
    this.#memory = memory
    this.#idleMilliseconds = idleMilliseconds ?? (() => 600_000)
    this.#child = new ComputeChild({
      command,
      environment,
      handshakeMilliseconds: this.#timings.handshakeMilliseconds,
      onMessage: (message) => this.#receive(message),
      onOutput: (chunk) => this.#current?.side.onOutput?.(chunk),
      onDeath: (error) => this.#rejectJob(error),
      onGone: () => memory?.free(this),
      onChange: onChange ?? (() => {}),
    })
    this.#watch = setInterval(() => this.#checkHeartbeat(), 1000)
    this.#watch.unref()
  }

  get status() {
    return this.#child.status
  }

  get problem() {
    return this.#child.problem
  }

  get node() {
    return this.#child.node
  }

  /** Runs a job after all earlier ones. */
  perform(task: ComputeTask, side: JobSide = {}): Job {
    const number = ++this.#jobs
    const cancelling = new AbortController()
    const waiting: Waiting = { task, number, side, cancelling, ...Promise.withResolvers<unknown>() }
    const cancel = (column?: number) => this.#cancel(waiting, column)
    const cancelAll = () => cancel()
    const hold = (held: boolean) => {
      if (this.#current?.number === number) this.#child.send({ type: 'hold', job: number, held })
    }
    this.#waiting.push(waiting)
    if (side.signal?.aborted) cancelAll()
    side.signal?.addEventListener('abort', cancelAll)
    const result = waiting.promise.finally(() => side.signal?.removeEventListener('abort', cancelAll))
    result.catch(() => {})
    void this.#advance()
    return { result, cancel, hold }
  }

  /** Runs the next waiting job unless one is running, and then those after it. */
  async #advance(): Promise<void> {
    const next = this.#isBusy ? undefined : this.#waiting.shift()
    if (!next) return
    this.#isBusy = true
    const { task, number, side, cancelling } = next
    // Closing also ends a process that is still starting.
    const settle = await this.#execute(task, { number, side, cancelling }).then(
      (value) => () => next.resolve(value),
      (thrown: unknown) => () => next.reject(this.#child.closed ? cancelled() : thrown),
    )
    this.#isBusy = false
    settle()
    void this.#advance()
    // The caller gets its answer first, because it may still need this process.
    setImmediate(() => this.#memory?.review())
  }

  get isIdle(): boolean {
    return !this.#isBusy && this.#waiting.length === 0
  }

  /** Ends the process if it is idle. */
  release(): void {
    if (this.isIdle) this.#child.stop()
  }

  /** Allows a broken host to start again. */
  allowRetries(): void {
    this.#child.allowRetries()
  }

  async close(): Promise<void> {
    clearInterval(this.#watch)
    clearTimeout(this.#idle)
    await this.#child.close()
  }

  async #execute(task: ComputeTask, job: Asked): Promise<unknown> {
    clearTimeout(this.#idle)
    const stopIfCancelled = () => {
      if (this.#child.closed || job.cancelling.signal.aborted) throw cancelled()
    }
    stopIfCancelled()
    try {
      await this.#child.ready()
      stopIfCancelled()
      return await this.#ask(task, job).catch(async (thrown: unknown) => {
        if (!needsAnotherProcess(thrown)) throw thrown
        this.#child.stop()
        await this.#child.ready()
        stopIfCancelled()
        return this.#ask(task, job)
      })
    } finally {
      this.#current = undefined
      this.#child.mark('idle')
      this.#idle = setTimeout(() => this.release(), this.#idleMilliseconds())
      this.#idle.unref()
    }
  }

  #ask(task: ComputeTask, job: Asked): Promise<unknown> {
    this.#child.mark('busy')
    this.#heardAt = performance.now()
    const { deadlineSeconds } = job.side
    return new Promise<unknown>((resolve, reject) => {
      this.#current = { ...job, resolve, reject }
      if (deadlineSeconds !== undefined)
        this.#overdue = new AwakeTimeout(() => this.#giveUp(job.cancelling, deadlineSeconds), deadlineSeconds * 1000)
      this.#child.send(startOf(job.number, task, this.#tensorFolder))
    }).finally(() => this.#overdue?.clear())
  }

  #cancel(job: Waiting, column: number | undefined): void {
    const { number, cancelling, side } = job
    const isRunning = () => this.#current?.number === number
    if (isRunning()) this.#child.send({ type: 'cancel', job: number, ...(column === undefined ? {} : { column }) })
    if (column !== undefined || cancelling.signal.aborted) return
    cancelling.abort(cancelled())
    if (isRunning()) {
      setTimeout(() => isRunning() && this.#child.kill(), side.graceMilliseconds ?? this.#timings.graceMilliseconds).unref()
      return
    }
    // It waits for its turn, or for its process to start.
    const place = this.#waiting.indexOf(job)
    if (place >= 0) this.#waiting.splice(place, 1)
    job.reject(cancelled())
  }

  /** Kills a process that did not answer in time; the next job gets a new one. */
  #giveUp(cancelling: AbortController, seconds: number): void {
    cancelling.abort(explainDeadline(seconds, loadavg()[0] ?? 0, availableParallelism()))
    this.#child.kill()
  }

  #receive(message: FromCompute): void {
    this.#heardAt = performance.now()
    const current = this.#current
    if (message.type === 'alive' || message.type === 'ready' || current?.number !== message.job) return
    if (message.type === 'event') current.side.onEvent?.(message.event)
    else if (message.type === 'result') current.resolve(message.value)
    else if (message.type === 'error') current.reject(explainError(message.error))
    else void this.#answer(message, current)
    if (message.type === 'result' || message.type === 'error' || message.type === 'put step') this.#child.forgetDeaths()
  }

  /** Answers a job's question, or refuses it with the reason. The job waits for the answer. */
  async #answer(question: Question | MemoryQuestion, { side, cancelling }: Current): Promise<void> {
    const { job, asked } = question
    try {
      if (question.type === 'claim memory')
        this.#child.send({ type: 'memory claimed', job, asked, granted: await this.#claimMemory(question, side, cancelling.signal) })
      else this.#child.send({ job, asked, ...(await answerQuestion(question, side, cancelling.signal)) })
    } catch (thrown) {
      this.#child.send({ type: 'refused', job, asked, error: toErrorMessage(thrown) })
    }
  }

  async #claimMemory(
    { bytes, waits }: MemoryQuestion,
    { claimant = unnamed, onMemoryWait }: JobSide,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (waits) onMemoryWait?.(true)
    try {
      return (await this.#memory?.claim({ holder: this, bytes, ...claimant }, waits, signal)) ?? true
    } finally {
      if (waits) onMemoryWait?.(false)
    }
  }

  /** Ends the job of a process that died, with this error or with the reason of its cancellation. */
  #rejectJob(error: EspalierError): { expected: boolean } {
    const { aborted: wasCancelled = false, reason } = this.#current?.cancelling.signal ?? {}
    this.#current?.reject(wasCancelled ? reason : error)
    return { expected: wasCancelled || isLimit(error) }
  }

  /** Kills a process that has been silent for too long. */
  #checkHeartbeat(): void {
    const now = performance.now()
    // Messages that came while this process was stopped are read only after this turn.
    if (now - this.#checkedAt > this.#timings.stoppedMilliseconds) this.#heardAt = now
    this.#checkedAt = now
    if (!this.#current || !this.#child.isRunning() || performance.now() - this.#heardAt < this.#timings.silenceMilliseconds) return
    this.#current.side.onOutput?.(`No heartbeat for ${this.#timings.silenceMilliseconds / 1000} s; killing the process.\n`)
    this.#child.kill()
  }
}

const unnamed = { id: '', title: 'another task' }

/** Whether a job needs a new process, because a process keeps the runtime that it opened first. Only the process can tell. */
const needsAnotherProcess = (thrown: unknown): boolean => thrown instanceof EspalierError && thrown.details?.anotherProcess === true

/** The message that starts a job. Throws `invalid` for a task out of its schema, such as one with a damaged plan of the history. */
function startOf(job: number, task: ComputeTask, tensorFolder: string): ToCompute {
  const message = { type: 'start' as const, job, task, tensorFolder }
  const { success, data, error } = readWith(toCompute, message)
  if (success) return data
  const [issue] = explainIssues(error, message)
  throw new EspalierError('invalid', `Part of what this job needs is damaged: ${issue?.message ?? 'it has an unknown form.'}`)
}

/** After this many deaths in a row, no new process is started. */
const breakerLimit = 3

interface ComputeChildOptions {
  command: ComputeCommand
  environment: Record<string, string>
  handshakeMilliseconds: number
  onMessage(message: FromCompute): void
  onOutput(chunk: string): void
  /** Returns whether the death was expected. Unexpected deaths count towards the limit. */
  onDeath(error: EspalierError): { expected: boolean }
  /** Called when a process has ended, however it did. */
  onGone(): void
  onChange(): void
}

/** Keeps at most one compute process. It is started on demand and restarted after a death, but not after too many deaths in a row. */
export class ComputeChild {
  readonly #options: ComputeChildOptions
  readonly #closing = new AbortController()
  #child: ComputeProcess | undefined
  #status: DeviceState['status'] = 'off'
  #problem: string | null = null
  #deaths = 0
  /** Number of the current process, so that a late message of an old one is not taken for one of the new one. */
  #generation = 0
  #gone: Promise<void> = Promise.resolve()

  constructor(options: ComputeChildOptions) {
    this.#options = options
  }

  get status(): DeviceState['status'] {
    return this.#status
  }

  get problem(): string | null {
    return this.#problem
  }

  get closed(): boolean {
    return this.#closing.signal.aborted
  }

  get node(): string | undefined {
    return this.#child?.node
  }

  isRunning(): boolean {
    return this.#child !== undefined
  }

  /** Starts a process unless one is running. */
  async ready(): Promise<void> {
    if (!this.#child) await this.#start()
  }

  send(message: ToCompute): void {
    this.#child?.send(message)
  }

  kill(): void {
    this.#child?.kill()
  }

  /** Ends the process without counting it as a death. */
  stop(): void {
    if (!this.#child) return
    const stopping = this.#child
    this.#child = undefined
    this.#generation++
    this.#become('stopping', null)
    stopping.kill()
    void this.#gone.then(() => this.#status === 'stopping' && this.#become('off', null))
  }

  /** Records whether the process is busy, and clears an earlier problem. */
  mark(now: 'busy' | 'idle'): void {
    if (this.#child) this.#become(now, null)
  }

  /** Forgets earlier deaths, because the process has finished a job or a step. */
  forgetDeaths(): void {
    this.#deaths = 0
  }

  /** Allows restarts again after too many deaths. */
  allowRetries(): void {
    this.#deaths = 0
    if (this.#status === 'broken') this.#become('off', null)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#gone
  }

  #become(next: DeviceState['status'], why: string | null): void {
    if (this.#status === next && this.#problem === why) return
    this.#status = next
    this.#problem = why
    this.#options.onChange()
  }

  async #start(): Promise<void> {
    await this.#gone
    if (this.#deaths >= breakerLimit) {
      const text = `The compute process ended ${this.#deaths} times in a row and will not be restarted. ${this.#problem ?? ''}`
      throw new EspalierError('internal', text.trim(), { ofProcess: true })
    }
    this.#become('starting', this.#problem)
    const mine = ++this.#generation
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#gone = promise
    const { onMessage, command, environment, handshakeMilliseconds, onOutput, onGone } = this.#options
    this.#child = await startComputeProcess({
      command,
      environment,
      handshakeMilliseconds,
      signal: this.#closing.signal,
      onMessage: (message) => mine === this.#generation && onMessage(message),
      onOutput,
      onEnd: (error) => {
        onGone()
        resolve()
        this.#died(mine, error)
      },
    }).catch((thrown: EspalierError) => {
      this.#died(mine, thrown)
      throw thrown
    })
  }

  #died(generation: number, error: EspalierError): void {
    if (generation !== this.#generation) return
    this.#child = undefined
    this.#generation++
    const expected = this.#options.onDeath(error).expected || this.closed
    if (!expected) this.#deaths++
    this.#become(this.#deaths >= breakerLimit ? 'broken' : 'off', expected ? null : error.message)
  }
}
