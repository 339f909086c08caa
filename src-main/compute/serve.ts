import { flushCompileCache } from 'node:module'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { computeProtocol, type FromCompute, type ToCompute, toCompute } from '#contract/machine/compute-messages.ts'
import type { StepResult } from '#engine/steps/step-name.ts'
import type { JobHost, TaskPerformer } from './job-host.ts'

const heartbeatMilliseconds = 1000

interface RunningJob {
  number: number
  all: AbortController
  columns: Map<number, AbortController>
  /** Set while events are held back. */
  held: PromiseWithResolvers<void> | undefined
}

interface Question {
  resolve(value: unknown): void
  reject(error: Error): void
}

/** Reports that the compute process is ready, runs one job at a time, and exits when the connection to the main process closes. */
export function serveCompute({ version, perform }: TaskPerformer): void {
  const runner = new JobRunner(perform)
  process.on('message', (raw) => runner.receive(toCompute.parse(raw)))
  process.on('disconnect', () => process.exit(0))
  // A job reports only the first failure. If parallel reads of a library fail too, they are logged instead of ending the process.
  process.on('unhandledRejection', (reason) => console.error('Unhandled rejection:', reason))
  // An interrupt in a terminal reaches all its processes. The main process decides when this one ends.
  process.on('SIGINT', () => {})
  setInterval(() => send({ type: 'alive', memoryBytes: process.memoryUsage.rss() }), heartbeatMilliseconds)
  send({ type: 'ready', protocol: computeProtocol, version, node: process.version })
}

/** The running job, and its requests that the main process has not answered yet. */
class JobRunner {
  readonly #perform: TaskPerformer['perform']
  readonly #questions = new Map<number, Question>()
  #current: RunningJob | undefined
  #asked = 0

  constructor(perform: TaskPerformer['perform']) {
    this.#perform = perform
  }

  receive(message: ToCompute): void {
    switch (message.type) {
      case 'start':
        void this.#start(message)
        break
      case 'cancel':
        if (this.#current?.number === message.job) abort(this.#current, message.column)
        break
      case 'hold':
        if (this.#current?.number === message.job) hold(this.#current, message.held)
        break
      default:
        this.#answer(message)
    }
  }

  async #start({ job: number, task, tensorFolder }: Extract<ToCompute, { type: 'start' }>): Promise<void> {
    if (this.#current)
      return send({ type: 'error', job: number, error: { code: 'conflict', message: 'The compute process is already running a job.' } })
    const job: RunningJob = { number, all: new AbortController(), columns: new Map(), held: undefined }
    this.#current = job
    try {
      const value = await this.#perform(task, this.#hostOf(job, tensorFolder))
      send({ type: 'result', job: number, value: value ?? null })
    } catch (thrown) {
      if (toErrorMessage(thrown).code === 'internal') console.error(thrown)
      send({ type: 'error', job: number, error: toErrorMessage(thrown) })
    } finally {
      this.#current = undefined
      // Node writes its cache of compiled code only at a normal exit, but this process is killed.
      flushCompileCache()
    }
  }

  #hostOf(job: RunningJob, folder: string): JobHost {
    const ask = (message: (asked: number) => FromCompute) => this.#ask(message)
    return {
      signal: job.all.signal,
      columnSignal: (column) => AbortSignal.any([job.all.signal, controllerOf(job, column).signal]),
      flow: () => job.held?.promise ?? Promise.resolve(),
      emit: (event) => send({ type: 'event', job: job.number, event }),
      async fetchFile(file) {
        return (await ask((asked) => ({ type: 'fetch file', job: job.number, asked, file }))) as string
      },
      async claimMemory(bytes, waits) {
        return (await ask((asked) => ({ type: 'claim memory', job: job.number, asked, bytes, waits }))) as boolean
      },
      steps: {
        folder,
        async get(name) {
          return (await ask((asked) => ({ type: 'get step', job: job.number, asked, name }))) as StepResult | undefined
        },
        async put(name, value, tensors) {
          await ask((asked) => ({ type: 'put step', job: job.number, asked, name, value, ...(tensors ? { tensors } : {}) }))
        },
      },
    }
  }

  #ask(message: (asked: number) => FromCompute): Promise<unknown> {
    const asked = ++this.#asked
    return new Promise((resolve, reject) => {
      this.#questions.set(asked, { resolve, reject })
      send(message(asked))
    })
  }

  #answer(message: Exclude<ToCompute, { type: 'start' | 'cancel' | 'hold' }>): void {
    const question = this.#questions.get(message.asked)
    this.#questions.delete(message.asked)
    if (message.type === 'refused') question?.reject(new EspalierError(message.error.code, message.error.message, message.error.details))
    else if (message.type === 'step found') question?.resolve(message.found ? foundStep(message) : undefined)
    else if (message.type === 'memory claimed') question?.resolve(message.granted)
    else question?.resolve(message.type === 'file fetched' ? message.path : undefined)
  }
}

function foundStep({ value, tensors, own }: Extract<ToCompute, { type: 'step found' }>): StepResult {
  return { value, ...(tensors ? { tensors } : {}), ...(own === undefined ? {} : { own }) }
}

function abort(job: RunningJob, column: number | undefined): void {
  const controller = column === undefined ? job.all : controllerOf(job, column)
  controller.abort(new EspalierError('cancelled', 'Cancelled.'))
  hold(job, false)
}

function hold(job: RunningJob, held: boolean): void {
  job.held?.resolve()
  job.held = held ? Promise.withResolvers<void>() : undefined
}

function controllerOf({ columns }: RunningJob, column: number): AbortController {
  const controller = columns.get(column) ?? new AbortController()
  columns.set(column, controller)
  return controller
}

function send(message: FromCompute): void {
  if (process.connected) process.send?.(message)
}
