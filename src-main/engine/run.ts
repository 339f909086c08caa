import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { FetchHubFile } from '#contract/hub-file.ts'
import type { Measure } from '#contract/measures.ts'
import type { RunDocument } from '#contract/run.ts'
import type { RunEvent } from '#contract/run-events.ts'
import type { DataRequest, RunRequest } from '#contract/run-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { type DatasetLocation, isDatasetId, locateDataset } from '#engine/data/named.ts'
import { readWindows, type Windows } from '#engine/data/windows.ts'
import { measureView } from '#engine/evaluation/measure.ts'
import { findFormat } from '#engine/export/index.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { stackParameters } from '#engine/model/spec.ts'
import { denseView, viewWithPlan } from '#engine/model/view.ts'
import { Vocabulary } from '#engine/model/vocabulary.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { MethodResult, MethodRun } from '#engine/pruning/method.ts'
import { densePlan, reachedSparsity, removedParameters } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import type { PassCount } from '#engine/pruning/variants.ts'
import { checkVocabulary, openTokenizer, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { version } from './version.ts'
import { ProgressMeter } from './run-progress.ts'

/** The id of a run that prunes nothing: the baseline. */
export const denseMethod = 'dense'

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

/** A model that is kept open between runs on it, so that a grid loads its weights once. */
let kept: { key: string; model: Promise<Model> } | undefined

export async function acquireModel(path: string, memoryBytes: number | undefined): Promise<Model> {
  const key = `${path}\n${memoryBytes ?? ''}`
  if (kept?.key !== key) {
    await releaseModel()
    kept = { key, model: openModel(path, memoryBytes) }
    kept.model.catch(() => {
      kept = undefined
    })
  }
  return (kept as { model: Promise<Model> }).model
}

/** Closes the model that the last run left open. */
export async function releaseModel(): Promise<void> {
  const last = kept
  kept = undefined
  if (last) await (await last.model).close()
}

/** The tokenizer of a model, checked against its vocabulary; undefined where it has none. */
export async function openModelTokenizer(model: Model): Promise<Tokenizer | undefined> {
  try {
    const tokenizer = await openTokenizer(model.path)
    checkVocabulary(tokenizer, model.spec.vocabulary)
    return tokenizer
  } catch (error) {
    if (toErrorMessage(error).code === 'not-found') return undefined
    throw error
  }
}

/** Runs one request from the model on disk to its document. Finished steps are taken from the host, so a run that died goes on. */
export async function executeRun(request: RunRequest, host: RunHost): Promise<RunDocument> {
  const run = new RunInProgress(request, host)
  return run.execute()
}

class RunInProgress {
  readonly #request: RunRequest
  readonly #host: RunHost
  readonly #meter: ProgressMeter
  readonly #seconds: Record<string, number> = {}
  readonly #passes: PassCount = { attention: 0, mlp: 0, head: 0 }
  #stepSeconds = 0

  constructor(request: RunRequest, host: RunHost) {
    this.#request = request
    this.#host = host
    this.#meter = new ProgressMeter((progress) => host.emit({ type: 'progress', progress }))
  }

  async execute(): Promise<RunDocument> {
    const request = this.#request
    const backend = await openBackend(request.backend)
    const model = await this.#time('open', () => acquireModel(request.model, request.memoryBytes))
    const tokenizer = await openModelTokenizer(model)
    const options = request.method === denseMethod ? {} : this.#parseOptions()
    const result = request.method === denseMethod ? nothingRemoved(model) : await this.#prune(model, tokenizer, options)
    const nominal = request.method === denseMethod ? 0 : budgetFor(model.spec, request.amount).sparsity
    const measures = await this.#measure(model, tokenizer, result)
    await this.#save(model, result)
    return {
      model: model.name,
      method: request.method,
      options,
      seed: request.seed,
      sparsity: { nominal, reached: reachedSparsity(model.spec, result.plan) },
      plan: result.plan,
      decisions: [...result.decisions],
      ...(result.selections ? { selections: [...result.selections] } : {}),
      notes: [...result.notes],
      measures: measures.measures,
      ...(measures.answers.length > 0 ? { answers: measures.answers } : {}),
      passes: this.#passes,
      seconds: this.#seconds,
      backend: backend.name,
      version,
    }
  }

  #parseOptions(): Record<string, unknown> {
    const { method, options } = this.#request
    const parsed = findMethod(method).options.strict().safeParse(options)
    if (parsed.success) return parsed.data
    const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'options'}: ${issue.message}`)
    throw new EspalierError('usage', `The options of ${method} are wrong: ${problems.join('; ')}. See \`espalier methods\`.`)
  }

  async #prune(model: Model, tokenizer: Tokenizer | undefined, options: Record<string, unknown>): Promise<MethodResult> {
    const method = findMethod(this.#request.method)
    const budget = budgetFor(model.spec, this.#request.amount)
    const calibration = await this.#calibration(model, tokenizer, method.windows(options))
    const view = denseView(model)
    const start = performance.now()
    const result = await method.plan({ view, calibration, budget, options, run: this.#methodRun() })
    // Steps that were found done cost their seconds in the process that died.
    this.#seconds.pruning = (performance.now() - start) / 1000 + this.#stepSeconds
    for (const text of result.notes) this.#host.emit({ type: 'note', text })
    return result
  }

  #methodRun(): MethodRun {
    const { signal } = this.#host
    return {
      seed: this.#request.seed,
      signal,
      step: (name, compute) => this.#step(name, compute),
      sharedStep: (name, compute) => this.#step(`shared:${this.#calibrationName()}: ${name}`, compute),
      progress: (phase, done, total, unit) => this.#meter.report(phase, done, total, unit),
      emit: (event) => this.#host.emit(event),
      count: (passes) => {
        this.#passes.attention += passes.attention
        this.#passes.mlp += passes.mlp
        this.#passes.head += passes.head
      },
    }
  }

  /** Names what a shared step depends on besides its own name. */
  #calibrationName(): string {
    const { model, calibration } = this.#request
    return [model, calibration?.source, calibration?.sequenceLength, calibration?.windows, calibration?.shuffleSeed].join('|')
  }

  async #step<T>(name: string, compute: () => Promise<T> | T): Promise<T> {
    this.#host.signal.throwIfAborted()
    const found = (await this.#host.steps.get(name)) as StepRecord | undefined
    if (found !== undefined) {
      this.#stepSeconds += found.seconds
      return found.value as T
    }
    const start = performance.now()
    const value = await compute()
    await this.#host.steps.put(name, { value, seconds: (performance.now() - start) / 1000 } satisfies StepRecord)
    return value
  }

  async #calibration(model: Model, tokenizer: Tokenizer | undefined, wanted: number): Promise<Windows> {
    const { calibration } = this.#request
    if (!calibration) throw new EspalierError('usage', `${this.#request.method} needs calibration data. Give some with --calibration_data.`)
    const windows = await this.#windows(model, tokenizer, { ...calibration, windows: calibration.windows ?? wanted })
    if (windows.length < Math.min(wanted, calibration.windows ?? wanted)) {
      const text = `Calibration: ${windows.length} windows of ${calibration.sequenceLength} tokens are there, ${wanted} were wanted; all of them are used.`
      this.#host.emit({ type: 'note', text })
    }
    return windows
  }

  async #windows(model: Model, tokenizer: Tokenizer | undefined, data: DataRequest): Promise<Windows> {
    const found = await this.#locate(data.source)
    const { windows } = await this.#time('reading text', () =>
      readWindows(found.path, tokenizer, {
        sequenceLength: data.sequenceLength,
        ...(data.windows === undefined ? {} : { maxWindows: data.windows }),
        ...(found.maxDocuments === undefined ? {} : { maxDocuments: found.maxDocuments }),
        ...(data.shuffleSeed === undefined ? {} : { shuffleSeed: data.shuffleSeed }),
      }),
    )
    const { vocabulary } = model.spec
    const bad = windows.flatMap((window) => Array.from(window.filter((id) => id >= vocabulary)))[0]
    if (bad !== undefined) throw new EspalierError('invalid', `${found.path} holds token id ${bad}; the model's vocabulary ends at ${vocabulary - 1}. Encode the text with this model's tokenizer.`)
    return windows
  }

  #locate(source: string): DatasetLocation | Promise<DatasetLocation> {
    if (!isDatasetId(source)) return { path: source }
    const { localFolder } = this.#request
    return locateDataset(source, { ...(localFolder === undefined ? {} : { localFolder }), ...(this.#host.fetchFile ? { fetchFile: this.#host.fetchFile } : {}) })
  }

  async #measure(model: Model, tokenizer: Tokenizer | undefined, result: MethodResult) {
    const view = viewWithPlan(model, result.plan)
    const measures: Measure[] = sizeMeasures(model, result)
    for (const measure of measures) this.#host.emit({ type: 'measure', measure })
    const answers: { prompt: string; text: string }[] = []
    try {
      for (const [index, request] of this.#request.measures.entries()) {
        const step = await this.#step(`measure ${index}: ${request.kind}`, () =>
          this.#time(request.kind, () =>
            measureView(request, {
              view,
              tokenizer,
              signal: this.#host.signal,
              progress: (phase, done, total, unit) => this.#meter.report(phase, done, total, unit),
              windows: (data) => this.#windows(model, tokenizer, data),
              ...(this.#host.fetchFile ? { fetchFile: this.#host.fetchFile } : {}),
            }),
          ),
        )
        for (const measure of step.measures) this.#host.emit({ type: 'measure', measure })
        measures.push(...step.measures)
        answers.push(...step.answers)
      }
    } finally {
      view.dispose()
    }
    return { measures, answers }
  }

  async #save(model: Model, { plan }: MethodResult): Promise<void> {
    const { save, method } = this.#request
    if (save) await this.#time('saving', () => findFormat(save.format).write({ model, plan, method, folder: save.folder }))
  }

  async #time<T>(phase: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now()
    const result = await work()
    this.#seconds[phase] = (this.#seconds[phase] ?? 0) + (performance.now() - start) / 1000
    return result
  }
}

function nothingRemoved(model: Model): MethodResult {
  return { plan: densePlan(model.spec), decisions: [], notes: [] }
}

/** Parameters left: of the block stack, and of everything with embedding and head. */
function sizeMeasures(model: Model, { plan }: MethodResult): Measure[] {
  const stack = stackParameters(model.spec) - removedParameters(model.spec, plan)
  const rest = Vocabulary.parameters(model.spec)
  return [
    { name: 'parameters', dataset: '', value: stack + rest, unit: 'parameters' },
    { name: 'parameters', dataset: 'block stack', value: stack, unit: 'parameters' },
  ]
}
