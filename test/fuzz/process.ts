import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CaseOutcome } from './worker.ts'

/** How a case ended. Seconds are processor time where the system reports it, so a busy machine does not make a case slow. */
export interface Ended extends Omit<CaseOutcome, 'number'> {
  how: 'answered' | 'hung' | 'died'
  seconds: number
  code: number | null
  signal: NodeJS.Signals | null
  output: string
}

const mostSeconds = 5
/** By wall clock: a waiting process uses no processor time. */
const mostWallSeconds = 120
const lookMilliseconds = 50

/** A process that runs cases, watched from outside. */
export class FuzzProcess {
  readonly #child: ChildProcess
  #output = ''

  private constructor(child: ChildProcess) {
    this.#child = child
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (this.#output = (this.#output + chunk).slice(-8000)))
  }

  /** @param realExport the file of an exported experiment, to be spoiled and imported */
  static async start(realExport: string): Promise<FuzzProcess> {
    const child = fork(join(import.meta.dirname, 'worker.ts'), [realExport], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    const started = new FuzzProcess(child)
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve())
      child.once('exit', () => reject(new Error(`The worker did not start: ${started.#output}`)))
    })
    child.removeAllListeners('exit')
    return started
  }

  /** Runs one case; `keep` is a folder for its files. */
  perform(seed: number, number: number, keep?: string): Promise<Ended> {
    this.#output = ''
    const child = this.#child
    const begun = performance.now()
    let from = usageOf(child.pid)
    let kind = ''
    let request: unknown
    let memoryBytes = 0
    return new Promise((resolve) => {
      const end = (how: Ended['how'], more: Partial<Ended> = {}) => {
        clearInterval(watch)
        child.removeAllListeners('message')
        child.removeAllListeners('close')
        const seconds =
          from === undefined ? (performance.now() - begun) / 1000 : Math.max(0, (usageOf(child.pid)?.seconds ?? lastSeconds) - from.seconds)
        resolve({ how, kind, request, seconds, memoryBytes, code: null, signal: null, output: this.#output, ...more })
      }
      let lastSeconds = from?.seconds ?? 0
      const watch = setInterval(() => {
        const now = usageOf(child.pid)
        lastSeconds = now?.seconds ?? lastSeconds
        memoryBytes = Math.max(memoryBytes, now?.memoryBytes ?? 0)
        const wall = (performance.now() - begun) / 1000
        const tooLong = now && from ? now.seconds - from.seconds > mostSeconds : wall > mostSeconds
        if (!tooLong && wall < mostWallSeconds) return
        end('hung')
        child.kill('SIGKILL')
      }, lookMilliseconds)
      child.on('message', (message: CaseOutcome & { done?: boolean }) => {
        kind = message.kind
        request = message.request ?? request
        // Everything before is the fuzzer's own work.
        if (!message.done) from = usageOf(child.pid)
        else
          end('answered', { memoryBytes: Math.max(memoryBytes, message.memoryBytes), ...(message.error ? { error: message.error } : {}) })
      })
      child.on('close', (code, signal) => end('died', { code, signal }))
      child.send({ seed, number, ...(keep === undefined ? {} : { keep }) })
    })
  }

  end(): void {
    this.#child.removeAllListeners('close')
    if (this.#child.connected) this.#child.disconnect()
  }
}

/** Processor seconds and memory of a process; undefined if it is gone or the system has no such files. */
function usageOf(pid: number | undefined): { seconds: number; memoryBytes: number } | undefined {
  try {
    const [, rest = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
    const fields = rest.split(' ')
    return { seconds: (Number(fields[11]) + Number(fields[12])) / 100, memoryBytes: Number(fields[21]) * 4096 }
  } catch {
    return undefined
  }
}
