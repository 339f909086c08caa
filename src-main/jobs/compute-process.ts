import { type ChildProcess, spawn } from 'node:child_process'
import { totalmem } from 'node:os'
import { EspalierError } from '#contract/errors.ts'
import { computeProtocol, type FromCompute, fromCompute, type ToCompute } from '#contract/machine/compute-messages.ts'
import { explainExit } from './explain-exit.ts'

/** The program and its arguments, for example Node and `compute/main.ts`. */
export type ComputeCommand = readonly [string, ...string[]]

export interface ComputeProcessOptions {
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

/** How much output is kept to explain a death. */
const keptOutput = 8000
/** The tensor runtime always prints these lines when loaded, whatever the log level. */
const startUpLines = /^(WARNING: All log messages before absl::InitializeLog|I\d{4} .*\] oneDNN custom operations are on).*\n?/gm
/** How long to wait for its last output after the exit. */
const drainMilliseconds = 500

/** Starts a compute process and waits until it confirms the protocol version. */
export function startComputeProcess(options: ComputeProcessOptions): Promise<ComputeProcess> {
  const [program, ...parameters] = options.command
  const child = spawn(program, parameters, {
    env: options.environment,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    serialization: 'json',
    windowsHide: true,
  })
  const end = () => child.kill('SIGKILL')
  options.signal.addEventListener('abort', end, { once: true })
  let output = ''
  let memoryBytes = 0
  const keep = (chunk: Buffer) => {
    const text = chunk.toString().replaceAll(startUpLines, '')
    if (text === '') return
    output = (output + text).slice(-keptOutput)
    options.onOutput(text)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  return new Promise((resolve, reject) => {
    const fail = (error: EspalierError) => {
      child.kill('SIGKILL')
      reject(error)
    }
    const late = setTimeout(
      () =>
        fail(
          new EspalierError(
            'internal',
            `The compute process did not answer within ${options.handshakeMilliseconds / 1000} s. ${output.slice(-500)}`.trim(),
            { ofProcess: true },
          ),
        ),
      options.handshakeMilliseconds,
    )
    whenEnded(child, (code, signal) => {
      clearTimeout(late)
      options.signal.removeEventListener('abort', end)
      const error = explainExit({ code, signal, output, memoryBytes, totalBytes: totalmem() })
      reject(error)
      options.onEnd(error)
    })
    child.on('message', (raw) => {
      const parsed = fromCompute.safeParse(raw)
      if (!parsed.success) return keep(Buffer.from(`Unreadable message: ${parsed.error.message}\n`))
      const message = parsed.data
      if (message.type === 'alive') memoryBytes = message.memoryBytes
      if (message.type !== 'ready') return options.onMessage(message)
      clearTimeout(late)
      if (message.protocol !== computeProtocol)
        return fail(
          new EspalierError(
            'internal',
            `The compute process speaks protocol ${message.protocol}, this program ${computeProtocol}. Build both again.`,
            { ofProcess: true },
          ),
        )
      resolve({
        pid: child.pid,
        node: message.node,
        send: (sent) => void (child.connected && child.send(sent, () => {})),
        kill: () => void child.kill('SIGKILL'),
      })
    })
  })
}

/** Calls back once: after exit and last output, or if the program could not be started. */
function whenEnded(child: ChildProcess, ended: (code: number | null, signal: NodeJS.Signals | null) => void): void {
  let told = false
  const tell = (code: number | null, signal: NodeJS.Signals | null) => {
    if (told) return
    told = true
    ended(code, signal)
  }
  child.on('error', (error) => {
    if (child.pid !== undefined) return
    child.stderr?.emit('data', Buffer.from(`${error.message}\n`))
    tell(null, null)
  })
  child.on('close', tell)
  child.on('exit', (code, signal) => setTimeout(() => tell(code, signal), drainMilliseconds).unref())
}
