import type { FetchHubFile } from '#contract/hub-file.ts'
import type { RunEvent } from '#contract/run-events.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import type { PassCount } from '#engine/pruning/variants.ts'
import { ProgressMeter } from './run-progress.ts'

/** What a run needs of whoever started it. */
export interface RunHost {
  /** Results of steps, written down before the run goes on. Names that begin with `shared:` hold for the whole experiment. */
  readonly steps: { get(name: string): Promise<unknown>; put(name: string, value: unknown): Promise<void> }
  emit(event: RunEvent): void
  readonly signal: AbortSignal
  /** Brings files of data sets that are asked for by name; without it only paths and local data sets can be used. */
  readonly fetchFile?: FetchHubFile
}

interface StepRecord {
  readonly value: unknown
  readonly seconds: number
}

/** The steps of one run: done once, found again after a kill, with the seconds that each phase took. */
export class RunSteps {
  readonly host: RunHost
  readonly seconds: Record<string, number> = {}
  readonly passes: PassCount = { attention: 0, mlp: 0, head: 0 }
  /** Seconds of steps that were found done: they were spent in the process that died. */
  foundSeconds = 0
  readonly #meter: ProgressMeter

  constructor(host: RunHost) {
    this.host = host
    this.#meter = new ProgressMeter((progress) => host.emit({ type: 'progress', progress }))
  }

  progress(phase: string, done: number, total: number, unit: string): void {
    this.#meter.report(phase, done, total, unit)
  }

  async step<T>(name: string, compute: () => Promise<T> | T): Promise<T> {
    this.host.signal.throwIfAborted()
    const found = (await this.host.steps.get(name)) as StepRecord | undefined
    if (found !== undefined) {
      this.foundSeconds += found.seconds
      return found.value as T
    }
    const start = performance.now()
    const value = await compute()
    await this.host.steps.put(name, { value, seconds: (performance.now() - start) / 1000 } satisfies StepRecord)
    return value
  }

  /** Adds the time of some work to a phase. */
  async time<T>(phase: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now()
    const result = await work()
    this.seconds[phase] = (this.seconds[phase] ?? 0) + (performance.now() - start) / 1000
    return result
  }

  /** What a method sees of the run. Shared steps hold for everything that runs on the same `calibration`, which names it. */
  methodRun(seed: number, calibration: string): MethodRun {
    return {
      seed,
      signal: this.host.signal,
      step: (name, compute) => this.step(name, compute),
      sharedStep: (name, compute) => this.step(`shared:${calibration}: ${name}`, compute),
      progress: (phase, done, total, unit) => this.progress(phase, done, total, unit),
      emit: (event) => this.host.emit(event),
      count: (passes) => {
        this.passes.attention += passes.attention
        this.passes.mlp += passes.mlp
        this.passes.head += passes.head
      },
    }
  }
}
