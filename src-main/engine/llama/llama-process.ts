import { type ChildProcess, fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type ErrorMessage, EspalierError } from '#contract/errors.ts'
import type { LlamaJobs } from './llama-jobs.ts'

/** How many characters of output are kept, to explain why the process ended. */
const keptOutput = 4000

type Reply = { readonly answer: unknown } | { readonly error: ErrorMessage }

/** llama.cpp in a process of its own, which does one job at a time. When the signal aborts, the process is killed. */
export class LlamaProcess {
  readonly #child: ChildProcess
  readonly #signal: AbortSignal | undefined
  readonly #kill = () => void this.#child.kill('SIGKILL')
  #output = ''

  constructor(signal?: AbortSignal) {
    const source = join(import.meta.dirname, 'child.ts')
    // This bundle is in the same folder as that of the compute process.
    const entry = existsSync(source) ? source : join(import.meta.dirname, 'llama.js')
    this.#child = fork(entry, { serialization: 'advanced', stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [] })
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString()).slice(-keptOutput)
    })
    this.#child.setMaxListeners(20)
    this.#signal = signal
    signal?.addEventListener('abort', this.#kill, { once: true })
  }

  /**
   * Runs a job and returns its answer. Throws the job's error, `invalid` if llama.cpp ends the process, or the signal's reason after an
   * abort.
   */
  ask<Name extends keyof LlamaJobs>(name: Name, ...parameters: Parameters<LlamaJobs[Name]>): Promise<ReturnType<LlamaJobs[Name]>> {
    this.#signal?.throwIfAborted()
    const child = this.#child
    if (!child.connected) return Promise.reject(explainEnd(name, parameters, child.signalCode ?? `code ${child.exitCode}`, this.#output))
    return new Promise((resolve, reject) => {
      const hear = (reply: Reply) => {
        child.off('close', die)
        if ('answer' in reply) resolve(reply.answer as ReturnType<LlamaJobs[Name]>)
        else reject(new EspalierError(reply.error.code, reply.error.message, reply.error.details))
      }
      const die = (code: number | null, ended: NodeJS.Signals | null) => {
        child.off('message', hear)
        reject(this.#signal?.aborted ? this.#signal.reason : explainEnd(name, parameters, ended ?? `code ${code}`, this.#output))
      }
      child.once('message', hear)
      child.once('close', die)
      child.send({ name, parameters })
    })
  }

  end(): void {
    this.#signal?.removeEventListener('abort', this.#kill)
    this.#kill()
  }
}

/** Matches the line in which ggml reports a failed assertion, or C++ an uncaught exception. */
const assertion = /^.*(?:GGML_ASSERT|GGML_ABORT|terminate called|what\(\)).*$/m

function explainEnd(job: string, [path]: readonly unknown[], ended: string, output: string): EspalierError {
  const reason = assertion.exec(output)?.[0].trim()
  const what = typeof path === 'string' ? `in the job "${job}" on ${path}` : `in the job "${job}"`
  return new EspalierError('invalid', `llama.cpp ended its process ${what} (${ended})${reason ? `: ${reason}` : '.'}`)
}
