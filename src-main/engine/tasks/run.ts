import type { DataRequest } from '#contract/data/data-request.ts'
import type { ScoredTask } from '#contract/data/questions.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Precision } from '#contract/pruning/precision.ts'
import type { Recovery } from '#contract/pruning/recovery.ts'
import { heldOutKinds, heldOutWindows } from '#contract/pruning/recovery-kinds.ts'
import type { Repair } from '#contract/pruning/repair.ts'
import type { Measure } from '#contract/runs/measures.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { denseMethod } from '#contract/titles.ts'
import { version } from '#contract/version.ts'
import { stackParameters } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { unpackedNotes } from '#engine/checkpoint/checkpoint.ts'
import { type DataSources, type ReadData, readData } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import { measureView } from '#engine/evaluation/measure.ts'
import { acquireModel, openModelTokenizer } from '#engine/model/kept-model.ts'
import { type Model, withProducts } from '#engine/model/model.ts'
import { locateOverflow } from '#engine/model/overflow.ts'
import { productsFor, resolvePrecision } from '#engine/model/precision.ts'
import { specWithPlan } from '#engine/model/views/sliced-spec.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { Vocabulary } from '#engine/model/weights/vocabulary.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { MethodResult } from '#engine/pruning/method.ts'
import { parseOptions } from '#engine/pruning/options.ts'
import { densePlan, reachedSparsity } from '#engine/pruning/plan.ts'
import type { HeldOutKind } from '#engine/pruning/recovery/held-out.ts'
import { recoverPlan } from '#engine/pruning/recovery/recover.ts'
import { writeWindows } from '#engine/pruning/recovery/written-text.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { retiredIn } from './retired.ts'
import { type RunHost, RunSteps } from './run-steps.ts'

/** Runs one request from the model on disk to its document. Finished steps are taken from the host, so a run that died goes on. */
export async function executeRun(request: RunRequest, host: RunHost): Promise<RunDocument> {
  return new RunInProgress(request, host).execute()
}

class RunInProgress {
  readonly #request: RunRequest
  readonly #steps: RunSteps
  readonly #notes: string[] = []
  #precision: Precision = 'float32'
  /** Seconds that other runs spent on the pruning of this one. */
  #sharedPruning = 0
  #calibrated: UsedData | undefined
  /** What was looked at last, to look again when its numbers are lost. */
  #lastRead: Windows = []

  constructor(request: RunRequest, host: RunHost) {
    this.#request = request
    this.#steps = new RunSteps(host)
  }

  async execute(): Promise<RunDocument> {
    const { backend: wanted, method, amount, memoryBytes, seed } = this.#request
    const backend = await openBackend(wanted)
    this.#precision = resolvePrecision(this.#request.precision ?? 'float32')
    const opened = await this.#steps.time('open', () => acquireModel(this.#request.model, memoryBytes))
    const model = withProducts(opened, productsFor(this.#precision))
    const fingerprint = await this.#steps.identify(model, { backend: backend.name, precision: this.#precision })
    this.#steps.host.emit({ type: 'model', fingerprint })
    const tokenizer = await openModelTokenizer(model)
    const dense = method === denseMethod
    const options = dense ? {} : parseOptions(findMethod(method), this.#request.options)
    for (const text of [...retiredIn(this.#request), ...unpackedNotes(model.checkpoint)]) this.#note(text)
    const pruned = dense ? nothingRemoved(model) : await this.#prune(model, tokenizer, options)
    const { result: repaired, repair } = await this.#repair(model, tokenizer, pruned)
    const { result: recovered, recovery } = await this.#recover(model, tokenizer, repaired)
    const result = withFiles(recovered)
    const { measures, answers, evaluation, questions } = await this.#measure(model, tokenizer, result)
    await this.#steps.requireSameModel()
    return {
      model: model.name,
      fingerprint,
      method,
      options,
      seed,
      ...(this.#calibrated ? { calibration: this.#calibrated } : {}),
      evaluation,
      sparsity: { nominal: dense ? 0 : budgetFor(model.spec, amount).sparsity, reached: reachedSparsity(model.spec, result.plan) },
      plan: result.plan,
      ...(repair ? { repair } : {}),
      ...(recovery ? { recovery } : {}),
      ...(result.fit ? { fit: result.fit } : {}),
      decisions: [...result.decisions],
      ...(result.selections ? { selections: [...result.selections] } : {}),
      notes: [...this.#notes, ...result.notes],
      measures,
      ...(answers.length > 0 ? { answers } : {}),
      ...(questions.length > 0 ? { questions } : {}),
      passes: this.#steps.passes,
      precision: this.#precision,
      ...certifiedBy(result),
      seconds: this.#steps.allSeconds(this.#sharedPruning),
      backend: backend.name,
      version,
    }
  }

  async #prune(model: Model, tokenizer: Tokenizer | undefined, options: Record<string, unknown>): Promise<MethodResult> {
    const { method: id, amount, seed } = this.#request
    const method = findMethod(id)
    const budget = budgetFor(model.spec, amount)
    const calibration = await this.#calibration(model, tokenizer, method.windows(options))
    const start = performance.now()
    const waited = model.store.secondsWaiting
    this.#calibrated = calibration.used
    const run = this.#steps.methodRun(seed)
    const view = denseView(model)
    const result = await method.plan({ view, calibration: calibration.windows, budget, options, run }).catch(async (thrown: unknown) => {
      throw await locateOverflow(thrown, view, calibration.windows)
    })
    this.#sharedPruning = this.#steps.sharedSeconds
    this.#steps.seconds.pruning = (performance.now() - start) / 1000 + this.#steps.foundSeconds
    this.#noteResidency(model, model.store.secondsWaiting - waited, (performance.now() - start) / 1000)
    for (const text of [...result.notes, ...this.#precisionNotes(result)]) this.#steps.host.emit({ type: 'note', text })
    return { ...result, notes: [...result.notes, ...this.#precisionNotes(result)] }
  }

  #precisionNotes(result: MethodResult): string[] {
    const { certified } = certifiedBy(result)
    if (this.#precision === 'bfloat16')
      return ['Everything was computed with bfloat16 products, for a first look: scores, choices and measures can differ from float32.']
    if (!certified) return []
    const { rounds, candidates, rescored } = certified
    return [
      `Choices are float32's: of ${candidates} candidates in ${rounds} rounds, ranked with bfloat16 products, the ${rescored} that could win were scored again.`,
    ]
  }

  /** Makes what is left answer more like the dense model, where that is asked for. */
  async #repair(model: Model, tokenizer: Tokenizer | undefined, result: MethodResult): Promise<{ result: MethodResult; repair?: Repair }> {
    const { repair: wanted, seed } = this.#request
    if (!wanted) return { result }
    const { windows, used, notes } = await this.#read(model, tokenizer, wanted.calibration, seed)
    for (const text of notes) this.#note(`Repair: ${text}`)
    const [start, found] = [performance.now(), this.#steps.foundSeconds + this.#steps.sharedSeconds]
    const run = this.#steps.methodRun(seed)
    const { plan, tensors, projections } = await repairPlan({ view: denseView(model), plan: result.plan, windows, kind: wanted.kind, run })
    const seconds = (performance.now() - start) / 1000 + this.#steps.foundSeconds + this.#steps.sharedSeconds - found
    this.#steps.seconds.repair = seconds
    const kept = projections.filter(({ before, after }) => !(after < before)).length
    if (kept > 0) this.#note(`Repair: ${kept} of ${projections.length} projections kept their weights, as the held-out error did not fall.`)
    const repair = { kind: wanted.kind, windows: windows.length, seconds, calibration: used, blocks: projections }
    return { result: { ...result, plan, ...(tensors ? { tensors } : {}) }, repair }
  }

  /** Trains what is left towards the dense model, where that is asked for. */
  async #recover(
    model: Model,
    tokenizer: Tokenizer | undefined,
    result: MethodResult,
  ): Promise<{ result: MethodResult; recovery?: Recovery }> {
    const { recover: wanted, seed } = this.#request
    if (!wanted) return { result }
    const { sequenceLength } = wanted.text
    const [start, found] = [performance.now(), this.#steps.foundSeconds]
    const heldOut: HeldOutKind[] = []
    for (const kind of heldOutKinds) {
      const data = { source: 'mixed', sequenceLength, windows: heldOutWindows }
      heldOut.push({ kind, windows: (await this.#read(model, tokenizer, data, 0, { accepts: (own) => own === kind })).windows })
    }
    const trained = (kind: string) => !(heldOutKinds as readonly string[]).includes(kind)
    const [view, run] = [denseView(model), this.#steps.recoveryRun(seed)]
    const write = (windows: number, length: number) => writeWindows({ view, tokenizer, seed, run }, windows, length)
    const { plan, tensors, recovery, notes } = await recoverPlan({
      view,
      plan: result.tensors ? withFiles(result).plan : result.plan,
      tensors: result.tensors,
      request: wanted,
      read: (windows, choose) => this.#read(model, tokenizer, { ...wanted.text, windows }, seed, { accepts: trained, choose, write }),
      heldOut,
      apart: await this.#windowsInUse(model, tokenizer),
      run,
    })
    for (const text of notes) this.#note(`Recovery: ${text}`)
    const seconds = (performance.now() - start) / 1000 + this.#steps.foundSeconds - found
    this.#steps.seconds.recovery = seconds
    return { result: { ...result, plan, ...(tensors ? { tensors } : {}) }, recovery: { ...recovery, seconds } }
  }

  /** Windows that perplexities are taken on, or a repair was fitted on. */
  async #windowsInUse(model: Model, tokenizer: Tokenizer | undefined): Promise<Windows> {
    const { repair, measures, seed } = this.#request
    const windows = repair ? [...(await this.#read(model, tokenizer, repair.calibration, seed)).windows] : []
    for (const measure of measures)
      if (measure.kind === 'perplexity') windows.push(...(await this.#read(model, tokenizer, measure.data, 0)).windows)
    return windows
  }

  /** Where the weights were, when not all of them fitted into memory as float32. */
  #noteResidency({ store }: Model, waited: number, seconds: number): void {
    if (store.residency === 'resident') return
    const share = ((100 * waited) / seconds).toFixed(0)
    const text =
      store.residency === 'packed'
        ? 'Weights stayed in memory as stored and were unpacked when they were used.'
        : `Weights were read from the disk as they were used; ${share} % of the time for pruning was spent waiting for it.`
    this.#note(text)
  }

  #note(text: string): void {
    this.#notes.push(text)
    this.#steps.host.emit({ type: 'note', text })
  }

  /** The windows that the method looks at: as many as it wants with its options, or fewer where fewer were asked for. */
  async #calibration(model: Model, tokenizer: Tokenizer | undefined, wanted: number): Promise<ReadData> {
    const { calibration, method, seed } = this.#request
    if (!calibration) throw new EspalierError('usage', `${method} needs calibration data. Choose a text for it.`)
    const { windows: most = wanted } = calibration
    const read = await this.#read(model, tokenizer, { ...calibration, windows: Math.min(wanted, most) }, seed)
    for (const text of read.notes) this.#note(`Calibration: ${text}`)
    if (most > wanted) this.#note(`Calibration: ${most} windows were asked for, ${method} looks at ${wanted} with these options.`)
    return read
  }

  async #read(
    model: Model,
    tokenizer: Tokenizer | undefined,
    data: DataRequest,
    seed: number,
    only: Pick<DataSources, 'accepts' | 'choose' | 'write'> = {},
  ): Promise<ReadData> {
    const { fetchFile, signal } = this.#steps.host
    const report = { signal, progress: (done: number, total: number) => this.#steps.progress('Reading text', done, total, 'tokens') }
    const sources = { localFolder: this.#request.localFolder, fetchFile, report, ...only }
    const found = await this.#steps.time('reading text', () => readData(model, tokenizer, data, seed, sources))
    this.#lastRead = found.windows
    return found
  }

  async #measure(model: Model, tokenizer: Tokenizer | undefined, result: MethodResult) {
    const { host } = this.#steps
    const view = viewWithPlan(model, result.plan, result.tensors)
    const measures: Measure[] = sizeMeasures(model, result)
    for (const measure of measures) host.emit({ type: 'measure', measure })
    const answers: { prompt: string; text: string }[] = []
    const evaluation: UsedData[] = []
    const questions: ScoredTask[] = []
    const removes = reachedSparsity(model.spec, result.plan) > 0
    const context = {
      view,
      ...(removes ? { dense: denseView(model) } : {}),
      tokenizer,
      signal: host.signal,
      progress: (phase: string, done: number, total: number, unit: string) => this.#steps.progress(phase, done, total, unit),
      read: (data: DataRequest) => this.#read(model, tokenizer, data, 0),
      ...(host.fetchFile ? { fetchFile: host.fetchFile } : {}),
    }
    try {
      for (const request of this.#request.measures) {
        const taken = await measureView(request, {
          ...context,
          step: (asked, compute) =>
            this.#steps.step({ ...asked, on: { view: result.plan, asked: asked.on } }, () => this.#steps.time(request.kind, compute)),
        })
        for (const measure of taken.measures) host.emit({ type: 'measure', measure })
        measures.push(...taken.measures)
        answers.push(...taken.answers)
        evaluation.push(...taken.evaluation)
        questions.push(...taken.questions)
        for (const text of taken.notes) this.#note(text)
      }
    } catch (thrown) {
      throw await locateOverflow(thrown, view, this.#lastRead)
    } finally {
      view.dispose()
    }
    return { measures, answers, evaluation, questions }
  }
}

/** How many candidates a search had, and how many of those were scored again with float32's accuracy. */
function certifiedBy({ decisions, selections = [] }: MethodResult): Pick<RunDocument, 'certified'> {
  const rounds = [
    ...decisions.map(({ scores, certified }) => ({ candidates: scores.length, certified })),
    ...selections.map(({ candidates, certified }) => ({ candidates: candidates.length, certified })),
  ].flatMap(({ candidates, certified }) => (certified ? { candidates, rescored: certified.rescored } : []))
  if (rounds.length === 0) return {}
  const sum = (what: 'candidates' | 'rescored') => rounds.reduce((total, round) => total + round[what], 0)
  return { certified: { rounds: rounds.length, candidates: sum('candidates'), rescored: sum('rescored') } }
}

/** The plan names the files of its tensors. */
function withFiles(result: MethodResult): MethodResult {
  return result.tensors ? { ...result, plan: { ...result.plan, tensors: [...result.tensors.files] } } : result
}

function nothingRemoved(model: Model): MethodResult {
  return { plan: densePlan(model.spec), decisions: [], notes: [] }
}

/** Bytes that a parameter takes as the checkpoint stores it, on average. */
function storedBytesPerParameter({ checkpoint, spec }: Model): number {
  const bytes = checkpoint.quantised?.bytes ?? [...checkpoint.tensors.values()].reduce((sum, tensor) => sum + tensor.bytes, 0)
  return bytes / (stackParameters(spec) + Vocabulary.parameters(spec))
}

/** Parameters left, and what they weigh as the model stores them: of the block stack, and of everything with embedding and head. */
function sizeMeasures(model: Model, { plan }: MethodResult): Measure[] {
  const left = specWithPlan(model.spec, plan)
  const [stack, rest] = [stackParameters(left), Vocabulary.parameters(left)]
  return [
    { name: 'parameters', dataset: '', value: stack + rest, unit: 'parameters' },
    { name: 'parameters', dataset: 'block stack', value: stack, unit: 'parameters' },
    { name: 'size', dataset: '', value: Math.round((stack + rest) * storedBytesPerParameter(model)), unit: 'bytes' },
  ]
}
