import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { computeProtocol, type FromCompute, type ToCompute, toCompute } from '#contract/machine/compute-messages.ts'
import type { StepResult } from '#engine/steps/step-store.ts'
import type { JobHost, TaskPerformer } from './job-host.ts'

const heartbeatMilliseconds = 1000

interface RunningJob {
  number: number
  all: AbortController
  columns: Map<number, AbortController>
}

interface Question {
  resolve(value: unknown): void
  reject(error: Error): void
}

/** The compute process: reports that it is ready, does one job at a time, and exits when the main process is gone. */
export function serveCompute({ version, perform }: TaskPerformer): void {
  let current: RunningJob | undefined
  let asked = 0
  const questions = new Map<number, Question>()

  function ask(message: (number: number) => FromCompute): Promise<unknown> {
    const number = ++asked
    return new Promise((resolve, reject) => {
      questions.set(number, { resolve, reject })
      send(message(number))
    })
  }

  function hostOf(job: RunningJob, folder: string): JobHost {
    return {
      signal: job.all.signal,
      columnSignal: (column) => AbortSignal.any([job.all.signal, controllerOf(job, column).signal]),
      emit: (event) => send({ type: 'event', job: job.number, event }),
      async fetchFile(file) {
        return (await ask((number) => ({ type: 'fetch file', job: job.number, asked: number, file }))) as string
      },
      steps: {
        folder,
        async get(name) {
          return (await ask((number) => ({ type: 'get step', job: job.number, asked: number, name }))) as StepResult | undefined
        },
        async put(name, value, tensors) {
          await ask((number) => ({ type: 'put step', job: job.number, asked: number, name, value, ...(tensors ? { tensors } : {}) }))
        },
      },
    }
  }

  async function start({ job: number, task, tensorFolder }: Extract<ToCompute, { type: 'start' }>): Promise<void> {
    if (current) return send({ type: 'error', job: number, error: { code: 'conflict', message: 'The compute process has a job already.' } })
    const job: RunningJob = { number, all: new AbortController(), columns: new Map() }
    current = job
    try {
      const value = await perform(task, hostOf(job, tensorFolder))
      send({ type: 'result', job: number, value: value ?? null })
    } catch (thrown) {
      if (toErrorMessage(thrown).code === 'internal') console.error(thrown)
      send({ type: 'error', job: number, error: toErrorMessage(thrown) })
    } finally {
      current = undefined
    }
  }

  function answer(message: Exclude<ToCompute, { type: 'start' | 'cancel' }>): void {
    const question = questions.get(message.asked)
    questions.delete(message.asked)
    if (message.type === 'refused') question?.reject(new EspalierError(message.error.code, message.error.message, message.error.details))
    else if (message.type === 'step found') question?.resolve(message.found ? foundStep(message) : undefined)
    else question?.resolve(message.type === 'file fetched' ? message.path : undefined)
  }

  process.on('message', (raw) => {
    const message = toCompute.parse(raw)
    if (message.type === 'start') void start(message)
    else if (message.type !== 'cancel') answer(message)
    else if (current?.number === message.job) abort(current, message.column)
  })
  process.on('disconnect', () => process.exit(0))
  // A library with parallel reads may fail in several of them. The job has already received the first failure.
  process.on('unhandledRejection', (reason) => console.error('Left over:', reason))
  process.on('SIGINT', () => {})
  setInterval(() => send({ type: 'alive', memoryBytes: process.memoryUsage.rss() }), heartbeatMilliseconds)
  send({ type: 'ready', protocol: computeProtocol, version, node: process.version })
}

function foundStep({ value, tensors, own }: Extract<ToCompute, { type: 'step found' }>): StepResult {
  return { value, ...(tensors ? { tensors } : {}), ...(own === undefined ? {} : { own }) }
}

function abort(job: RunningJob, column: number | undefined): void {
  const controller = column === undefined ? job.all : controllerOf(job, column)
  controller.abort(new EspalierError('cancelled', 'Cancelled.'))
}

function controllerOf({ columns }: RunningJob, column: number): AbortController {
  const controller = columns.get(column) ?? new AbortController()
  columns.set(column, controller)
  return controller
}

function send(message: FromCompute): void {
  if (process.connected) process.send?.(message)
}
