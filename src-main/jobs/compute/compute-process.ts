import { type ChildProcess, spawn } from 'node:child_process'
import { totalmem } from 'node:os'
import { EspalierError } from '#contract/errors.ts'
import { computeProtocol, type FromCompute, fromCompute, type ToCompute } from '#contract/machine/compute-messages.ts'
import { explainExit } from './explain-exit.ts'

/** The program and its arguments, for example Node and `compute/main.ts`. */
export type ComputeCommand = readonly [string, ...string[]]

interface ComputeProcessOptions {
  command: ComputeCommand
  environment: Record<string, string>
  handshakeMilliseconds: number
  /** Kills the process, even before it is ready. */
  signal: AbortSignal
  onMessage(message: FromCompute): void
  onOutput(chunk: string): void
  /** Called once, when the process has ended and its last output was read. */
  onEnd(error: EspalierError): void
}

export interface ComputeProcess {
  pid: number | undefined
  node: string
  send(message: ToCompute): void
  kill(): void
}

/** How many characters of output are kept to explain a death. */
const keptOutput = 8000
/** The tensor runtime always prints these lines when loaded, whatever the log level. */
const startUpLines = /^(WARNING: All log messages before absl::InitializeLog|I\d{4} .*\] oneDNN custom operations are on).*\n?/gm
/** How long to wait for its last output after the exit. */
const drainMilliseconds = 500

/** Starts a compute process and waits until it confirms the protocol version. */
export function startComputeProcess(options: ComputeProcessOptions): Promise<ComputeProcess> {
  return new Starting(options).answer
}

/** A process from its start to its end. Its first message resolves `answer`, unless the time limit or its death rejects it first. */
class Starting {
  readonly answer: Promise<ComputeProcess>
  readonly #options: ComputeProcessOptions
  readonly #child: ChildProcess
  readonly #end = () => void this.#child.kill('SIGKILL')
  readonly #late: AwakeTimeout
  #output = ''
  #memoryBytes = 0
  #resolve!: (process: ComputeProcess) => void
  #reject!: (error: EspalierError) => void

  constructor(options: ComputeProcessOptions) {
    this.#options = options
    const [program, ...parameters] = options.command
    this.#child = spawn(program, parameters, {
      env: options.environment,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      serialization: 'json',
      windowsHide: true,
    })
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#late = new AwakeTimeout(
      () =>
        this.#fail(
          `The compute process did not answer within ${options.handshakeMilliseconds / 1000} s. ${this.#output.slice(-500)}`.trim(),
        ),
      options.handshakeMilliseconds,
    )
    options.signal.addEventListener('abort', this.#end, { once: true })
    this.#child.stdout?.on('data', (chunk) => this.#keep(chunk))
    this.#child.stderr?.on('data', (chunk) => this.#keep(chunk))
    this.#child.on('message', (raw) => this.#receive(raw))
    whenEnded(this.#child, (code, signal) => this.#ended(code, signal))
  }

  #keep(chunk: Buffer): void {
    const text = chunk.toString().replaceAll(startUpLines, '')
    if (text === '') return
    this.#output = (this.#output + text).slice(-keptOutput)
    this.#options.onOutput(text)
  }

  #receive(raw: unknown): void {
    const parsed = fromCompute.safeParse(raw)
    if (!parsed.success) this.#keep(Buffer.from(`Unreadable message: ${parsed.error.message}\n`))
    else if (parsed.data.type === 'ready') this.#greet(parsed.data)
    else {
      if (parsed.data.type === 'alive') this.#memoryBytes = parsed.data.memoryBytes
      this.#options.onMessage(parsed.data)
    }
  }

  #greet({ protocol, node }: Extract<FromCompute, { type: 'ready' }>): void {
    this.#late.clear()
    const child = this.#child
    if (protocol !== computeProtocol)
      this.#fail(`The compute process uses protocol ${protocol}, but this program uses ${computeProtocol}. Build both again.`)
    this.#resolve({
      pid: child.pid,
      node,
      send: (sent) => void (child.connected && child.send(sent, () => {})),
      kill: this.#end,
    })
  }

  #fail(text: string): void {
    this.#end()
    this.#reject(new EspalierError('internal', text, { ofProcess: true }))
  }

  #ended(code: number | null, signal: NodeJS.Signals | null): void {
    this.#late.clear()
    this.#options.signal.removeEventListener('abort', this.#end)
    const error = explainExit({ code, signal, output: this.#output, memoryBytes: this.#memoryBytes, totalBytes: totalmem() })
    this.#reject(error)
    this.#options.onEnd(error)
  }
}

/** Calls `ended` once: after the exit and the last output, or if the program could not be started. */
function whenEnded(child: ChildProcess, ended: (code: number | null, signal: NodeJS.Signals | null) => void): void {
  let called = false
  const callOnce = (code: number | null, signal: NodeJS.Signals | null) => {
    if (called) return
    called = true
    ended(code, signal)
  }
  child.on('error', (error) => {
    if (child.pid !== undefined) return
    child.stderr?.emit('data', Buffer.from(`${error.message}\n`))
    callOnce(null, null)
  })
  child.on('close', callOnce)
  child.on('exit', (code, signal) => setTimeout(() => callOnce(code, signal), drainMilliseconds).unref())
}

/** A timer that is this late means that this process was stopped. */
export const stoppedMilliseconds = 5000

/** A timeout that begins again if this process was stopped meanwhile, for example while the computer slept. */
export class AwakeTimeout {
  #timer: NodeJS.Timeout | undefined

  constructor(callback: () => void, milliseconds: number, stopped = stoppedMilliseconds) {
    this.#arm(callback, milliseconds, stopped)
  }

  clear(): void {
    clearTimeout(this.#timer)
  }

  #arm(callback: () => void, milliseconds: number, stopped: number): void {
    const due = performance.now() + milliseconds
    this.#timer = setTimeout(() => {
      if (performance.now() - due > stopped) this.#arm(callback, milliseconds, stopped)
      else callback()
    }, milliseconds)
  }
}
