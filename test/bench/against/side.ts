import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** A side's report about a finished method. */
export interface Outcome {
  readonly result: unknown
  readonly peakBytes: number
  readonly passes?: { readonly attention: number; readonly mlp: number; readonly head: number }
  readonly decisions?: readonly { readonly kind: string; readonly block: number }[]
  readonly stageOneProducts?: number
  /** For each round, how many candidates were scored again with float32's accuracy. */
  readonly rescored?: readonly number[]
}

type Answer = Partial<Outcome> & { readonly step?: string; readonly seconds?: number; readonly waiting?: string } & Record<string, unknown>

/** One of the two compared programs, a separate process that answers line by line. */
export class Side {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly steps = new Map<string, number>()
  outcome: Outcome | undefined

  constructor(command: string, args: string[], env: NodeJS.ProcessEnv) {
    this.#child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
  }

  send(request: object): void {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`)
  }

  async receive(): Promise<Answer> {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`A side of the comparison ended with exit code ${this.#child.exitCode}.`)
    return JSON.parse(value) as Answer
  }

  async ask(request: object): Promise<Answer> {
    this.send(request)
    return this.receive()
  }

  async start(method: string, options: object): Promise<void> {
    this.steps.clear()
    this.outcome = undefined
    this.send({ command: 'run', method, options })
    await this.#upToNextStep()
  }

  /** Runs the next step, which it waits for. */
  async goOn(): Promise<void> {
    if (this.outcome) return
    this.send({ command: 'go' })
    await this.#upToNextStep()
  }

  async #upToNextStep(): Promise<void> {
    for (let answer = await this.receive(); answer.waiting === undefined; answer = await this.receive()) {
      if (answer.step !== undefined) this.steps.set(answer.step, answer.seconds ?? 0)
      else {
        this.outcome = answer as unknown as Outcome
        return
      }
    }
  }

  end(): void {
    this.send({ command: 'end' })
    this.#child.stdin?.end()
  }
}
