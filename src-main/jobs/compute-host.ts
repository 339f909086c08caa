import { type ComputeTask, type FromCompute, toCompute } from '#contract/compute-messages.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { BackendName } from '#contract/run-request.ts'
import { computeChild } from './compute-child.ts'
import type { ComputeCommand } from './compute-process.ts'
import { explainError, isLimit } from './explain-exit.ts'
import { answerQuestion, type JobSide, type Question } from './job-side.ts'

export interface HostTimings {
  handshakeMilliseconds: number
  /** Between asking a job to stop and ending its process. */
  graceMilliseconds: number
  /** A process that says nothing for this long hangs. One tensor operation may block it for minutes. */
  silenceMilliseconds: number
}

export const usualTimings: HostTimings = { handshakeMilliseconds: 10_000, graceMilliseconds: 1500, silenceMilliseconds: 600_000 }

export interface HostOptions {
  command: ComputeCommand
  environment: Record<string, string>
  /** Where steps leave files of tensors. */
  tensorFolder: string
  timings?: Partial<HostTimings>
  /** How long an idle process is kept, asked whenever it becomes idle. */
  idleMilliseconds?(): number
  onChange?(): void
}

export interface Job {
  result: Promise<unknown>
  /** Asks a column, or all of the job, to stop; all of it is ended by force when it does not. */
  cancel(column?: number): void
}

interface Current {
  number: number
  side: JobSide
  /** Aborted when the job was asked to stop. */
  cancelling: AbortController
  resolve(value: unknown): void
  reject(error: EspalierError): void
}

export type ComputeHost = ReturnType<typeof computeHost>

const cancelled = () => new EspalierError('cancelled', 'Cancelled.')

/** Does jobs one after the other in a compute process, which is started when one comes, watched, and given back when idle. */
export function computeHost({
  command,
  environment,
  tensorFolder,
  timings: changed,
  idleMilliseconds = () => 600_000,
  onChange = () => {},
}: HostOptions) {
  const timings = { ...usualTimings, ...changed }
  let current: Current | undefined
  let backend: BackendName | undefined
  let jobs = 0
  let heardAt = 0
  let tail: Promise<unknown> = Promise.resolve()
  let idle: NodeJS.Timeout | undefined
  const child = computeChild({
    command,
    environment,
    handshakeMilliseconds: timings.handshakeMilliseconds,
    onMessage: receive,
    onOutput: (chunk) => current?.side.onOutput?.(chunk),
    onDeath(error) {
      backend = undefined
      const expected = current?.cancelling.signal.aborted === true
      current?.reject(expected ? cancelled() : error)
      return { expected: expected || isLimit(error) }
    },
    onChange,
  })

  function receive(message: FromCompute): void {
    heardAt = Date.now()
    if (message.type === 'alive' || message.type === 'ready' || current?.number !== message.job) return
    if (message.type === 'event') current.side.onEvent?.(message.event)
    else if (message.type === 'result') current.resolve(message.value)
    else if (message.type === 'error') current.reject(explainError(message.error))
    else void answer(message, current)
    if (message.type === 'result' || message.type === 'error') child.proveWell()
  }

  /** What a job asks is answered, or refused with the reason; the job waits for it. */
  async function answer(question: Question, { side, cancelling }: Current): Promise<void> {
    const { job, asked } = question
    try {
      child.send({ job, asked, ...(await answerQuestion(question, side, cancelling.signal)) })
    } catch (thrown) {
      child.send({ type: 'refused', job, asked, error: toErrorMessage(thrown) })
    }
  }

  const watch = setInterval(() => {
    if (!current || !child.isRunning() || Date.now() - heardAt < timings.silenceMilliseconds) return
    current.side.onOutput?.(`No sign of life for ${timings.silenceMilliseconds / 1000} s; the process is ended.\n`)
    child.kill()
  }, 1000)
  watch.unref()

  async function execute(task: ComputeTask, job: Omit<Current, 'resolve' | 'reject'>): Promise<unknown> {
    clearTimeout(idle)
    const stopIfCancelled = () => {
      if (child.closed || job.cancelling.signal.aborted) throw cancelled()
    }
    stopIfCancelled()
    try {
      const wanted = backendOf(task)
      // A process keeps its first backend, so another one needs another process.
      if (wanted !== undefined && backend !== undefined && wanted !== backend) stopProcess()
      await child.ready()
      stopIfCancelled()
      backend = wanted ?? backend
      child.mark('busy')
      heardAt = Date.now()
      return await new Promise<unknown>((resolve, reject) => {
        current = { ...job, resolve, reject }
        child.send(toCompute.parse({ type: 'start', job: job.number, task, tensorFolder }))
      })
    } finally {
      current = undefined
      child.mark('idle')
      idle = setTimeout(stopProcess, idleMilliseconds())
      idle.unref()
    }
  }

  function stopProcess(): void {
    if (current) return
    backend = undefined
    child.stop()
  }

  function cancel(number: number, cancelling: AbortController, column: number | undefined): void {
    const running = current?.number === number
    if (running) child.send({ type: 'cancel', job: number, ...(column === undefined ? {} : { column }) })
    if (column !== undefined || cancelling.signal.aborted) return
    cancelling.abort(cancelled())
    if (running) setTimeout(() => current?.number === number && child.kill(), timings.graceMilliseconds).unref()
  }

  return {
    get status() {
      return child.status
    },
    get problem() {
      return child.problem
    },
    get node() {
      return child.node
    },
    /** Does a job after those that came before it. */
    perform(task: ComputeTask, side: JobSide = {}): Job {
      const number = ++jobs
      const cancelling = new AbortController()
      const result = tail.then(() => execute(task, { number, side, cancelling }))
      tail = result.catch(() => {})
      return { result, cancel: (column) => cancel(number, cancelling, column) }
    },
    /** Gives the process back when it has nothing to do. */
    release: stopProcess,
    /** Lets a broken host start again. */
    mend: child.mend,
    async close(): Promise<void> {
      clearInterval(watch)
      clearTimeout(idle)
      await child.close()
    },
  }
}

/** The backend that a task wants its process to compute with; undefined where it computes nothing. */
function backendOf(task: ComputeTask): BackendName | undefined {
  if (task.kind === 'run' || task.kind === 'generate') return task.request.backend
  if (task.kind === 'self-test') return task.backend
  return task.kind === 'probe' || task.kind === 'save' ? 'auto' : undefined
}
