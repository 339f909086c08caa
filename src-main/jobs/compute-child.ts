import { EspalierError } from '#contract/errors.ts'
import type { FromCompute, ToCompute } from '#contract/machine/compute-messages.ts'
import type { DeviceState } from '#contract/runs/queue.ts'
import { type ComputeCommand, type ComputeProcess, startComputeProcess } from './compute-process.ts'

/** After this many deaths in a row, no new process is started. */
export const breakerLimit = 3

export interface ComputeChildOptions {
  command: ComputeCommand
  environment: Record<string, string>
  handshakeMilliseconds: number
  onMessage(message: FromCompute): void
  onOutput(chunk: string): void
  /** Returns whether the death was requested; others count towards the limit. */
  onDeath(error: EspalierError): { expected: boolean }
  onChange(): void
}

export type ComputeChild = ReturnType<typeof computeChild>

/** At most one compute process at a time: started on demand, restarted after a death, but not after too many. */
export function computeChild(options: ComputeChildOptions) {
  let child: ComputeProcess | undefined
  let status: DeviceState['status'] = 'off'
  let problem: string | null = null
  let deaths = 0
  /** Numbers the processes, so that a late message of an old one is not attributed to the new one. */
  let generation = 0
  let gone: Promise<void> = Promise.resolve()
  const closing = new AbortController()

  function become(next: DeviceState['status'], why: string | null = problem): void {
    if (status === next && problem === why) return
    status = next
    problem = why
    options.onChange()
  }

  async function start(): Promise<void> {
    await gone
    if (deaths >= breakerLimit) {
      const text = `The compute process ended ${deaths} times in a row and will not be restarted. ${problem ?? ''}`
      throw new EspalierError('internal', text.trim(), { ofProcess: true })
    }
    become('starting')
    const mine = ++generation
    const { promise, resolve } = Promise.withResolvers<void>()
    gone = promise
    const died = (error: EspalierError) => {
      if (mine !== generation) return
      child = undefined
      generation++
      const expected = options.onDeath(error).expected || closing.signal.aborted
      if (!expected) deaths++
      become(deaths >= breakerLimit ? 'broken' : 'off', expected ? null : error.message)
    }
    child = await startComputeProcess({
      command: options.command,
      environment: options.environment,
      handshakeMilliseconds: options.handshakeMilliseconds,
      signal: closing.signal,
      onMessage: (message) => mine === generation && options.onMessage(message),
      onOutput: options.onOutput,
      onEnd(error) {
        resolve()
        died(error)
      },
    }).catch((thrown: EspalierError) => {
      died(thrown)
      throw thrown
    })
  }

  /** Ends the process without counting it as a death. */
  function stop(): void {
    if (!child) return
    const stopping = child
    child = undefined
    generation++
    become('stopping', null)
    stopping.kill()
    void gone.then(() => status === 'stopping' && become('off', null))
  }

  return {
    stop,
    get status() {
      return status
    },
    get problem() {
      return problem
    },
    get closed() {
      return closing.signal.aborted
    },
    get node() {
      return child?.node
    },
    isRunning: () => child !== undefined,
    /** Starts a process unless one is running. */
    ready: async () => child || start(),
    send: (message: ToCompute) => child?.send(message),
    kill: () => child?.kill(),
    /** Records whether the process is busy, and that it is alive. */
    mark(now: 'busy' | 'idle'): void {
      if (child) become(now, null)
    },
    proveWell(): void {
      deaths = 0
    },
    /** Allows restarts again after too many deaths. */
    mend(): void {
      deaths = 0
      if (status === 'broken') become('off', null)
    },
    async close(): Promise<void> {
      closing.abort()
      await gone
    },
  }
}
