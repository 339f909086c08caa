import { createHash, randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import type { FetchHubFile } from '#contract/models/hub-file.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { sharedPhase } from '#contract/runs/measures.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import { type Progress, type RunPart, readingModel } from '#contract/runs/time/progress.ts'
import { modelContents, quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { type NamedTensors, StoredTensors, type TensorsToStore, writeTensorFile } from '#engine/checkpoint/stored-tensors.ts'
import { requireNumbers } from '#engine/model/finite.ts'
import type { Model } from '#engine/model/model.ts'
import type { MethodRun, PassCount } from '#engine/pruning/method.ts'
import type { StateStore } from '#engine/pruning/recovery/training.ts'
import { nameStep, type StepBase, type StepName, type StepRequest, type StepResult, type StepStore } from '#engine/steps/step-name.ts'
import { contentsName } from '#engine/tasks/own-model.ts'

/** What a run needs from its caller. */
export interface RunHost {
  /** Stores the result of each step before the run continues. */
  readonly steps: StepStore
  emit(event: RunEvent): void
  readonly signal: AbortSignal
  /** Downloads files of data sets requested by name. Without it, only paths and local data sets work. */
  readonly fetchFile?: FetchHubFile
}

interface StepRecord {
  readonly value: unknown
  readonly seconds: number
}

/** The steps of one run. Each step is computed once, found again if the run was killed, and timed by phase. */
export class RunSteps {
  readonly host: RunHost
  readonly seconds: { [Part in RunPart]?: number } = {}
  readonly passes: PassCount = { attention: 0, mlp: 0, head: 0 }
  /** Seconds of steps that an earlier process of this run had done before it was killed. */
  foundSeconds = 0
  /** Seconds of steps done by other runs. */
  sharedSeconds = 0
  readonly #meter: ProgressMeter
  /** Seconds of all phases that `time` has added. */
  #timed = 0
  #base: StepBase | undefined
  #rows = ''
  #path = ''
  #quickKey = ''

  constructor(host: RunHost) {
    this.host = host
    this.#meter = new ProgressMeter((progress) => host.emit({ type: 'progress', progress }))
  }

  progress(phase: string, done: number, total: number, unit: string): void {
    this.#meter.report(phase, done, total, unit)
  }

  /**
   * Sets the model that the run computes on, and returns its fingerprint. From then on the fingerprint is part of every step's name, and
   * storing a step fails if the model's files have changed.
   */
  async identify(model: Model, how: Omit<StepBase, 'model'>): Promise<string> {
    this.#path = model.path
    this.#quickKey = model.quickKey
    const name = contentsName(model.quickKey)
    const found = await this.host.steps.get(name)
    const contents = found ? String((found.value as StepRecord).value) : await this.#readContents()
    if (!found) {
      if ((await quickKeyOf(model.path)) !== model.quickKey) throw replaced(model.path)
      // The time for reading the model does not count as the run's time.
      await this.host.steps.put(name, { value: contents, seconds: 0 } satisfies StepRecord)
    }
    this.#base = { ...how, model: contents }
    return contents
  }

  /** Marks steps that follow as those of the model with only these rows of its vocabulary, or again as those of the whole model. */
  keepRows(rows: readonly number[] | undefined): void {
    this.#rows = rows ? ` with rows ${createHash('sha256').update(rows.join()).digest('hex')}` : ''
  }

  #readContents(): Promise<string> {
    const progress = (done: number, total: number) => this.progress(readingModel, done, total, 'bytes')
    return modelContents(this.#path, { signal: this.host.signal, progress })
  }

  /** Throws `conflict` if the model's files have changed since the run began. */
  async requireSameModel(): Promise<void> {
    if (!this.#base) throw new Error('A run must identify its model before it does steps.')
    const now = await quickKeyOf(this.#path)
    if (now === this.#quickKey) return
    if ((await this.#readContents()) !== this.#base.model) throw replaced(this.#path)
    this.#quickKey = now
  }

  async step<T>(asked: StepRequest, compute: () => Promise<T> | T): Promise<T> {
    const name = this.#nameOf(asked)
    const found = await this.#find(name)
    if (found !== undefined) return found.value as T
    const seconds = this.#clock()
    const value = await compute()
    requireNumbers(value, `"${asked.label}"`)
    await this.#put(name, { value, seconds: seconds() })
    return value
  }

  /** A step that produces tensors. They are written to a file, and its path and hash are stored with the rest of the result. */
  async tensorStep<T extends object>(
    asked: StepRequest,
    compute: () => Promise<T & { tensors: TensorsToStore }>,
  ): Promise<Omit<T, 'tensors'> & { tensors: StoredTensors }> {
    const name = this.#nameOf(asked)
    const found = await this.#find(name)
    const stored = found?.tensors && (await openStored(found.tensors, found.own !== false))
    if (stored) return { ...(found?.value as T), tensors: stored }
    const seconds = this.#clock()
    const { tensors, ...value } = await compute()
    requireNumbers(value, `"${asked.label}"`)
    const file = await writeTensorFile(this.host.steps.folder, tensors)
    await this.#put(name, { value, seconds: seconds() }, file)
    return { ...value, tensors: await StoredTensors.open([file]) }
  }

  /** Returns the seconds since now. They include those of states and steps that are found meanwhile, which an earlier attempt spent. */
  #clock(): () => number {
    const [start, found] = [performance.now(), this.foundSeconds]
    return () => (performance.now() - start) / 1000 + this.foundSeconds - found
  }

  /** The newest stored state of a long step, if its file still exists. */
  async findState<T>(asked: StepRequest): Promise<{ value: T; tensors: StoredTensors } | undefined> {
    const found = await this.#find(this.#nameOf(asked))
    const tensors = found?.tensors && (await openStored(found.tensors, false))
    return tensors && { value: found.value as T, tensors }
  }

  /** Stores the state of a long step and deletes the previous state's file. Without a state, only deletes. */
  async putState(asked: StepRequest, state?: { readonly value: unknown; readonly tensors: NamedTensors }, seconds = 0): Promise<void> {
    const name = this.#nameOf(asked)
    const before = await this.host.steps.get(name)
    // The mark makes the file unique, so deleting it never deletes another step's tensors.
    const mark = { values: Float32Array.from(randomBytes(8)), shape: [8] }
    const file = state && (await writeTensorFile(this.host.steps.folder, new Map([...state.tensors, ['mark', mark]])))
    await this.#put(name, { value: state?.value ?? null, seconds }, file)
    if (before?.tensors) await rm(before.tensors.file, { force: true })
  }

  #nameOf(asked: StepRequest): StepName {
    if (!this.#base) throw new Error('A run must identify its model before it does steps.')
    return nameStep(asked, { ...this.#base, model: this.#base.model + this.#rows })
  }

  async #put(name: StepName, record: StepRecord, tensors?: TensorFile): Promise<void> {
    await this.requireSameModel()
    await this.host.steps.put(name, record, tensors)
  }

  async #find(name: StepName): Promise<StepResult | undefined> {
    this.host.signal.throwIfAborted()
    const found = await this.host.steps.get(name)
    if (found === undefined) return undefined
    const { value, seconds } = found.value as StepRecord
    if (found.own === false) this.sharedSeconds += seconds
    else this.foundSeconds += seconds
    return { ...found, value }
  }

  /** Adds the time of some work to a phase, without the phases within it. */
  async time<T>(phase: RunPart, work: () => Promise<T>): Promise<T> {
    const [start, before] = [performance.now(), this.#timed]
    const result = await work()
    const seconds = (performance.now() - start) / 1000
    this.seconds[phase] = (this.seconds[phase] ?? 0) + seconds - (this.#timed - before)
    this.#timed = before + seconds
    return result
  }

  /** Like `time`, for work that counts as no part of pruning, repair or recovery, even if its steps were done before. */
  async aside<T>(phase: RunPart, work: () => Promise<T>): Promise<T> {
    const { foundSeconds, sharedSeconds } = this
    const result = await this.time(phase, work)
    this.foundSeconds = foundSeconds
    this.sharedSeconds = sharedSeconds
    return result
  }

  /** The seconds of each phase, and the seconds that other runs spent for this one, if any. */
  allSeconds(shared = this.sharedSeconds): Record<string, number> {
    return shared > 0 ? { ...this.seconds, [sharedPhase]: shared } : this.seconds
  }

  /** The part of this class that a method may use. */
  methodRun(seed: number): MethodRun {
    return {
      seed,
      signal: this.host.signal,
      step: (asked, compute) => this.step(asked, compute),
      tensorStep: (asked, compute) => this.tensorStep(asked, compute),
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

  /** The part of this class that a recovery may use. */
  recoveryRun(seed: number): MethodRun & StateStore {
    return {
      ...this.methodRun(seed),
      findState: (asked) => this.findState(asked),
      putState: (asked, state, seconds) => this.putState(asked, state, seconds),
    }
  }
}

/**
 * Opens a stored file of tensors. Returns undefined if the file is damaged and another run's, so that the step is computed again. Throws if
 * it is damaged and this run's own, because a retry discards it.
 */
async function openStored(file: TensorFile, own: boolean): Promise<StoredTensors | undefined> {
  try {
    return await StoredTensors.open([file])
  } catch (thrown) {
    if (own) throw thrown
    return undefined
  }
}

const replaced = (path: string): EspalierError =>
  new EspalierError('conflict', `The model at ${path} was changed during the run, so the run stopped. Retry the run to use the new model.`)

/** Turns counts into progress reports with a rate and the remaining time, at most ten a second, and always one at the end of a phase. */
class ProgressMeter {
  readonly #emit: (progress: Progress) => void
  #phase = ''
  #started = 0
  #startDone = 0
  #last = 0

  constructor(emit: (progress: Progress) => void) {
    this.#emit = emit
  }

  report(phase: string, done: number, total: number, unit: string): void {
    const now = performance.now()
    if (phase !== this.#phase) {
      this.#phase = phase
      this.#started = now
      this.#startDone = done
      this.#last = 0
    }
    if (now - this.#last < 100 && done < total) return
    this.#last = now
    const seconds = (now - this.#started) / 1000
    const perSecond = seconds > 0 ? (done - this.#startDone) / seconds : 0
    this.#emit({
      phase,
      done,
      total,
      unit,
      ...(perSecond > 0 ? { perSecond, ratedFor: seconds, secondsLeft: (total - done) / perSecond } : {}),
    })
  }
}
