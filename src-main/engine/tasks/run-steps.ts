import type { FetchHubFile } from '#contract/models/hub-file.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { sharedPhase } from '#contract/runs/phases.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import { type NamedTensors, StoredTensors, writeTensorFile } from '#engine/checkpoint/stored-tensors.ts'
import { requireNumbers } from '#engine/model/finite.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import type { PassCount } from '#engine/pruning/search/passes.ts'
import { ProgressMeter } from './run-progress.ts'

/** A step as it was written down: its JSON, and the file of its tensors where it has some. */
export interface StepResult {
  readonly value: unknown
  readonly tensors?: TensorFile
  /** False where another run did it. */
  readonly own?: boolean
}

/** Where results of steps are written down. */
export interface StepStore {
  get(name: string): Promise<StepResult | undefined>
  /** `tensors` is a file in `folder`, which the store keeps from then on. */
  put(name: string, value: unknown, tensors?: TensorFile): Promise<void>
  /** Where files of tensors are written. */
  readonly folder: string
}

/** What a run needs of whoever started it. */
export interface RunHost {
  /** Results of steps, written down before the run goes on. Names that begin with `shared:` hold for the whole experiment. */
  readonly steps: StepStore
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
  /** Seconds of steps that were found done: they were spent by this run, in the process that died. */
  foundSeconds = 0
  /** Seconds of steps that other runs did. */
  sharedSeconds = 0
  readonly #meter: ProgressMeter

  constructor(host: RunHost) {
    this.host = host
    this.#meter = new ProgressMeter((progress) => host.emit({ type: 'progress', progress }))
  }

  progress(phase: string, done: number, total: number, unit: string): void {
    this.#meter.report(phase, done, total, unit)
  }

  async step<T>(name: string, compute: () => Promise<T> | T): Promise<T> {
    const found = await this.#find(name)
    if (found !== undefined) return found.value as T
    const start = performance.now()
    const value = await compute()
    requireNumbers(value, `"${nameOf(name)}"`)
    await this.host.steps.put(name, { value, seconds: (performance.now() - start) / 1000 } satisfies StepRecord)
    return value
  }

  /** A step that makes tensors: they go to a file, whose place and hash are written down with the rest of the result. */
  async tensorStep<T extends object>(
    name: string,
    compute: () => Promise<T & { tensors: NamedTensors }>,
  ): Promise<Omit<T, 'tensors'> & { tensors: StoredTensors }> {
    const found = await this.#find(name)
    if (found?.tensors) return { ...(found.value as T), tensors: await StoredTensors.open([found.tensors]) }
    const start = performance.now()
    const { tensors, ...value } = await compute()
    requireNumbers(value, `"${nameOf(name)}"`)
    const file = await writeTensorFile(this.host.steps.folder, tensors)
    await this.host.steps.put(name, { value, seconds: (performance.now() - start) / 1000 } satisfies StepRecord, file)
    return { ...value, tensors: await StoredTensors.open([file]) }
  }

  async #find(name: string): Promise<StepResult | undefined> {
    this.host.signal.throwIfAborted()
    const found = await this.host.steps.get(name)
    if (found === undefined) return undefined
    const { value, seconds } = found.value as StepRecord
    if (found.own === false) this.sharedSeconds += seconds
    else this.foundSeconds += seconds
    return { ...found, value }
  }

  /** Adds the time of some work to a phase. */
  async time<T>(phase: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now()
    const result = await work()
    this.seconds[phase] = (this.seconds[phase] ?? 0) + (performance.now() - start) / 1000
    return result
  }

  /** The seconds of each phase, and those of steps that other runs did, where there are any. */
  get allSeconds(): Record<string, number> {
    return this.sharedSeconds > 0 ? { ...this.seconds, [sharedPhase]: this.sharedSeconds } : this.seconds
  }

  /** What a method sees of the run. Shared steps hold for everything that runs on the same `calibration`, which names it. */
  methodRun(seed: number, calibration: string): MethodRun {
    return {
      seed,
      signal: this.host.signal,
      step: (name, compute) => this.step(name, compute),
      tensorStep: (name, compute) => this.tensorStep(name, compute),
      sharedStep: (name, compute) => this.step(`shared:${calibration}: ${name}`, compute),
      progress: (phase, done, total, unit) => this.progress(phase, done, total, unit),
      emit: (event) => this.host.emit(event),
      count: (passes) => {
        this.passes.attention += passes.attention
        this.passes.mlp += passes.mlp
        this.passes.head += passes.head
        if (passes.recalled) this.passes.recalled = (this.passes.recalled ?? 0) + passes.recalled
      },
    }
  }
}

/** A step's name without what it is shared by. */
function nameOf(name: string): string {
  return name.replace(/^shared:.*?: /, '')
}
