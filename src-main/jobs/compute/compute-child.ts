import { EspalierError } from '#contract/errors.ts'
import type { FromCompute, ToCompute } from '#contract/machine/compute-messages.ts'
import type { DeviceState } from '#contract/runs/queue.ts'
import { type ComputeCommand, type ComputeProcess, startComputeProcess } from './compute-process.ts'

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

  /** Forgets earlier deaths, because the process has finished a job. */
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
    const { onMessage, command, environment, handshakeMilliseconds, onOutput } = this.#options
    this.#child = await startComputeProcess({
      command,
      environment,
      handshakeMilliseconds,
      signal: this.#closing.signal,
      onMessage: (message) => mine === this.#generation && onMessage(message),
      onOutput,
      onEnd: (error) => {
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
