import { type ComputeTask, type FromCompute, toCompute } from '#contract/compute-messages.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { HubFile } from '#contract/hub-file.ts'
import type { DeviceState } from '#contract/queue.ts'
import type { BackendName } from '#contract/run-request.ts'
import { type ComputeCommand, type ComputeProcess, startComputeProcess } from './compute-process.ts'
import { explainError } from './explain-exit.ts'

export interface HostTimings {
  handshakeMilliseconds: number
  /** Between asking a job to stop and ending its process. */
  graceMilliseconds: number
  /** A process that says nothing for this long hangs. One tensor operation may block it for minutes. */
  silenceMilliseconds: number
}

export const usualTimings: HostTimings = {
  handshakeMilliseconds: 10_000,
  graceMilliseconds: 1500,
  silenceMilliseconds: 600_000,
}

/** Deaths in a row after which a host refuses to start another process. */
export const breakerLimit = 3

export interface HostOptions {
  command: ComputeCommand
  environment: Record<string, string>
  timings?: Partial<HostTimings>
  /** How long an idle process is kept, asked whenever it becomes idle. */
  idleMilliseconds?(): number
  onChange?(): void
}

/** What the main side does for a job while it goes on. Steps are answered before the job goes on. */
export interface JobSide {
  onEvent?(event: unknown): void
  onOutput?(chunk: string): void
  getStep?(name: string): { value: unknown } | undefined
  putStep?(name: string, value: unknown): void
  /** Gives the path of a file of the hub; stops when the job is cancelled. */
  fetchFile?(file: HubFile, signal: AbortSignal): Promise<string>
}

export interface Job {
  result: Promise<unknown>
  /** Asks a column, or all of the job, to stop; all of it is ended by force when it does not. */
  cancel(column?: number): void
}

interface Current {
  number: number
  side: JobSide
  cancelled: boolean
  /** Stops what the main side does for the job. */
  cancelling: AbortController
  settle(outcome: { value: unknown } | { error: EspalierError }): void
}

type Question = Extract<FromCompute, { type: 'get step' | 'put step' | 'fetch file' }>
type Answer = { type: 'step found'; found: boolean; value?: unknown } | { type: 'step written' } | { type: 'file fetched'; path: string }

export type ComputeHost = ReturnType<typeof computeHost>

/** One compute process: started when a job comes, watched, given back when idle, not started again after it died too often. */
export function computeHost({
  command,
  environment,
  timings: changed,
  idleMilliseconds = () => 600_000,
  onChange = () => {},
}: HostOptions) {
  const timings = { ...usualTimings, ...changed }
  let child: ComputeProcess | undefined
  let current: Current | undefined
  let status: DeviceState['status'] = 'off'
  let problem: string | null = null
  let deaths = 0
  let jobs = 0
  let heardAt = 0
  const closing = new AbortController()
  let tail: Promise<unknown> = Promise.resolve()
  let idle: NodeJS.Timeout | undefined
  let generation = 0
  let backend: BackendName | undefined
  let gone: Promise<void> = Promise.resolve()

  function become(next: DeviceState['status'], why: string | null = problem): void {
    if (status === next && problem === why) return
    status = next
    problem = why
    onChange()
  }

  async function ready(): Promise<ComputeProcess> {
    if (child) return child
    await gone
    if (deaths >= breakerLimit)
      throw new EspalierError(
        'internal',
        `The compute process ended ${deaths} times in a row and is not started again. ${problem ?? ''}`.trim(),
        { ofProcess: true },
      )
    become('starting')
    const mine = ++generation
    backend = undefined
    let left = () => {}
    gone = new Promise((resolve) => {
      left = resolve
    })
    child = await startComputeProcess({
      command,
      environment,
      handshakeMilliseconds: timings.handshakeMilliseconds,
      signal: closing.signal,
      onMessage: (message) => mine === generation && receive(message),
      onOutput: (chunk) => current?.side.onOutput?.(chunk),
      onEnd(error) {
        left()
        if (mine === generation) died(error)
      },
    }).catch((thrown: unknown) => {
      if (mine === generation) died(thrown as EspalierError)
      throw thrown
    })
    heardAt = Date.now()
    return child
  }

  function died(error: EspalierError): void {
    const expected = closing.signal.aborted || current?.cancelled === true
    if (!child && status !== 'starting') return
    child = undefined
    generation++
    if (!expected) deaths++
    const cancelled = current?.cancelled === true
    current?.settle({ error: cancelled ? new EspalierError('cancelled', 'Cancelled.') : error })
    become(deaths >= breakerLimit ? 'broken' : 'off', expected ? null : error.message)
  }

  function receive(message: FromCompute): void {
    heardAt = Date.now()
    if (message.type === 'alive' || message.type === 'ready' || current?.number !== message.job) return
    const { side, settle } = current
    if (message.type === 'event') side.onEvent?.(message.event)
    else if (message.type === 'result') settle({ value: message.value })
    else if (message.type === 'error') settle({ error: explainError(message.error) })
    else void answer(message, current)
  }

  /** What a job asks is answered, or refused with the reason; the job waits for it. */
  async function answer(question: Question, { side, cancelling }: Current): Promise<void> {
    const { job, asked } = question
    try {
      child?.send({ job, asked, ...(await answerTo(question, side, cancelling.signal)) })
    } catch (thrown) {
      child?.send({ type: 'refused', job, asked, error: toErrorMessage(thrown) })
    }
  }

  const watch = setInterval(() => {
    if (!child || !current || Date.now() - heardAt < timings.silenceMilliseconds) return
    current.side.onOutput?.(`No sign of life for ${timings.silenceMilliseconds / 1000} s; the process is ended.\n`)
    child.kill()
  }, 1000)
  watch.unref()

  async function execute(
    number: number,
    task: ComputeTask,
    side: JobSide,
    isCancelled: () => boolean,
    onStart: (current: Current) => void,
  ): Promise<unknown> {
    clearTimeout(idle)
    if (closing.signal.aborted || isCancelled()) throw new EspalierError('cancelled', 'Cancelled.')
    try {
      const wanted = backendOf(task)
      // A process keeps its first backend, so another one needs another process.
      if (child && wanted !== undefined && backend !== undefined && wanted !== backend) stopProcess()
      const target = await ready()
      backend = wanted ?? backend
      if (isCancelled()) throw new EspalierError('cancelled', 'Cancelled.')
      become('busy')
      heardAt = Date.now()
      const value = await new Promise<unknown>((resolve, reject) => {
        current = {
          number,
          side,
          cancelled: false,
          cancelling: new AbortController(),
          settle: (outcome) => ('error' in outcome ? reject(outcome.error) : resolve(outcome.value)),
        }
        onStart(current)
        target.send(toCompute.parse({ type: 'start', job: number, task }))
      })
      deaths = 0
      return value
    } finally {
      current = undefined
      if (child) become('idle', null)
      idle = setTimeout(stopProcess, idleMilliseconds())
      idle.unref()
    }
  }

  function stopProcess(): void {
    if (!child || current) return
    const stopping = child
    child = undefined
    generation++
    become('stopping', null)
    stopping.kill()
    void gone.then(() => status === 'stopping' && become('off', null))
  }

  return {
    get status() {
      return status
    },
    get problem() {
      return problem
    },
    get pid() {
      return child?.pid
    },
    get node() {
      return child?.node
    },
    /** Does a job after those that came before it. */
    perform(task: ComputeTask, side: JobSide = {}): Job {
      const number = ++jobs
      let cancelled = false
      let running: Current | undefined
      const result = tail.then(() =>
        execute(
          number,
          task,
          side,
          () => cancelled,
          (started) => {
            running = started
          },
        ),
      )
      tail = result.catch(() => {})
      return {
        result,
        cancel(column) {
          if (column === undefined) cancelled = true
          if (!running || running !== current) return
          child?.send({ type: 'cancel', job: number, ...(column === undefined ? {} : { column }) })
          if (column !== undefined || running.cancelled) return
          running.cancelled = true
          running.cancelling.abort(new EspalierError('cancelled', 'Cancelled.'))
          const stopped = running
          setTimeout(() => current === stopped && child?.kill(), timings.graceMilliseconds).unref()
        },
      }
    },
    /** Gives the process back when it has nothing to do. */
    release: stopProcess,
    /** Lets a broken host start again. */
    mend(): void {
      deaths = 0
      if (status === 'broken') become('off', null)
    },
    async close(): Promise<void> {
      clearInterval(watch)
      clearTimeout(idle)
      closing.abort()
      await gone
    },
  }
}

async function answerTo(question: Question, side: JobSide, signal: AbortSignal): Promise<Answer> {
  if (question.type === 'get step') {
    const step = side.getStep?.(question.name)
    return { type: 'step found', found: step !== undefined, value: step?.value }
  }
  if (question.type === 'put step') {
    side.putStep?.(question.name, question.value)
    return { type: 'step written' }
  }
  if (!side.fetchFile) throw new EspalierError('unreachable', 'This job cannot download anything.')
  return { type: 'file fetched', path: await side.fetchFile(question.file, signal) }
}

/** The backend that a task wants its process to compute with; undefined where it computes nothing. */
function backendOf(task: ComputeTask): BackendName | undefined {
  if (task.kind === 'run' || task.kind === 'generate') return task.request.backend
  if (task.kind === 'self-test') return task.backend
  return task.kind === 'probe' || task.kind === 'save' ? 'auto' : undefined
}
