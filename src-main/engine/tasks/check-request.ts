import { basename } from 'node:path'
import type { DataRequest } from '#contract/data/data-request.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { FormatOutline } from '#contract/exports/exports.ts'
import { withinContext } from '#contract/protocol.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { type RecoveryRequest, untrainable } from '#contract/pruning/recovery.ts'
import { fewestRepairWindows } from '#contract/pruning/repair.ts'
import { amountText, isPlain, mixedBudget } from '#contract/runs/amount-text.ts'
import type { Outline, Problem, RequestPreview } from '#contract/runs/request-preview.ts'
import type { MeasureRequest, RepairRequest, RunRequest } from '#contract/runs/run-request.ts'
import type { Work } from '#contract/runs/time/estimate.ts'
import {
  datasetTitles,
  denseMethod,
  everyTaskTitle,
  formatTitles,
  type GgufType,
  isAblation,
  isInspection,
  mixedBytes,
  selfWritten,
  titleOfMethod,
  weightText,
} from '#contract/titles.ts'
import { plural } from '#contract/words.ts'
import { activeParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { foreseeBudget, ggufRange } from '#engine/budgets/plan-within.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { fileOfDataset, isDatasetId } from '#engine/data/named.ts'
import { locate, longWindowNote, readData } from '#engine/data/read-data.ts'
import { openSource } from '#engine/data/source.ts'
import { workOf } from '#engine/estimate/count-work.ts'
import { memoryNeeded } from '#engine/estimate/memory.ts'
import { requireBeginToken } from '#engine/evaluation/begin-token.ts'
import { isTaskId } from '#engine/evaluation/tasks/index.ts'
import { checkQuestions, questionFiles } from '#engine/evaluation/tasks/questions.ts'
import { usesOfTokenizer } from '#engine/evaluation/uses-of-tokenizer.ts'
import { requireRoom } from '#engine/evaluation/written/evaluate.ts'
import { isWrittenTaskId, unknownTask, writtenTasks } from '#engine/evaluation/written/index.ts'
import { expectedPlans, outlineLikely } from '#engine/export/check-save.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { requireMixedTypes } from '#engine/export/mixed-types/mixed-types.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { checkMemory, divideMemory, openSpec } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { resolvePrecision } from '#engine/model/precision.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import { pause } from '#engine/model/walk.ts'
import { leastBytes } from '#engine/model/weights/residency.ts'
import { findAblation } from '#engine/pruning/ablations/index.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { type Method, parseOptions } from '#engine/pruning/method.ts'
import { outlineOf } from '#engine/pruning/outline.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { requireWholeHead, roomFor } from '#engine/pruning/recovery/recovery-budget.ts'
import { findMethod, methods } from '#engine/pruning/registry.ts'
import { repairRoom } from '#engine/pruning/repair/repair-memory.ts'
import { encodeText, type Tokenizer, withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { requireTrimmable } from './run/trim-first.ts'

/** GGUF types shown in a preview of weights as computed: F16, and the most popular quantised type. */
const previewedTypes: readonly GgufType[] = ['F16', 'Q4_K_M']

/** The windows of a text are counted up to this number. */
const mostCounted = 16_384

/**
 * Previews requests: what each would remove and need, and its problems. Reads no weights and computes nothing. Stops between two requests,
 * or while text is encoded.
 */
export function checkRequests(requests: readonly RunRequest[], signal?: AbortSignal): Promise<RequestPreview[]> {
  const shared: Shared = { answers: new Map(), plans: new LatestPlans(), signal }
  return answerEach(requests, signal, async (request, model) => new RequestCheck(request, await model, shared).check())
}

/** The work of each request, without checking the request; null if its model or text no longer exists. */
export function workOfRequests(requests: readonly RunRequest[], signal?: AbortSignal): Promise<(Work | null)[]> {
  const workIn = async (request: RunRequest, model: Outside) => workOf(model, await withSparsity(model, request), signal)
  return answerEach(requests, signal, (request, model) => model.then((opened) => workIn(request, opened)).catch(() => null))
}

/** Answers one request after another. Opens each model once, and stops between two requests. */
async function answerEach<Answer>(
  requests: readonly RunRequest[],
  signal: AbortSignal | undefined,
  answer: (request: RunRequest, model: Promise<Outside>) => Promise<Answer>,
): Promise<Answer[]> {
  const models = new Map<string, Promise<Outside>>()
  const answers: Answer[] = []
  for (const request of requests) {
    const model = models.get(request.model) ?? openOutside(request.model)
    models.set(request.model, model)
    answers.push(await answer(request, model))
    await pause(signal)
  }
  return answers
}

/** The request with a sparsity instead of the size of a file, from which it follows. */
async function withSparsity(model: Outside, request: RunRequest): Promise<RunRequest> {
  const { amount } = request
  if (!('bytes' in amount) || mixedBudget(amount)) return request
  return { ...request, amount: { sparsity: (await foreseeBudget(model, request, amount)).sparsity } }
}

/** The memory that a request's run needs, as its preview says. Reads no text, and keeps no tokenizer in the process of the run. */
export async function memoryOfRequest(request: RunRequest): Promise<number> {
  opened.clear()
  const model = { ...(await describeOutside(request.model)), tokenizer: undefined }
  return new RequestCheck(request, model, { answers: new Map(), plans: new LatestPlans(), signal: undefined }).countMemory()
}

/** Models of the latest checks, because a preview checks the same ones after each change of a form. Their tokenizers take megabytes. */
const opened = new Map<string, Promise<Outside>>()
const mostOpened = 3

/** Opens a model, or returns it if it was opened before and none of its files has changed. */
async function openOutside(path: string): Promise<Outside> {
  // What is wrong with a path is found when it is opened.
  const key = `${path} ${await quickKeyOf(path).catch(() => '')}`
  const found = opened.get(key) ?? openUnknown(path)
  opened.delete(key)
  opened.set(key, found)
  found.catch(() => opened.delete(key))
  for (const oldest of opened.keys()) if (opened.size > mostOpened) opened.delete(oldest)
  return found
}

async function openUnknown(path: string): Promise<Outside> {
  const described = await describeOutside(path)
  return { ...described, tokenizer: await openModelTokenizer(described) }
}

async function describeOutside(path: string): Promise<Omit<Outside, 'tokenizer'>> {
  const { checkpoint, spec } = await openSpec(path)
  await checkpoint.close()
  return { path, name: basename(checkpoint.path), checkpoint, spec }
}

interface Chosen {
  readonly method: Method
  readonly options: Record<string, unknown>
}

/** What the requests of a grid share, so that it is found once. */
interface Shared {
  /** Results of checks of texts and questions, by what was checked. */
  readonly answers: Map<string, Promise<Problem[]>>
  readonly plans: LatestPlans
  readonly signal: AbortSignal | undefined
}

/**
 * The likely plans of requests, and their sizes in each format. Those of gates take seconds and megabytes. Requests that differ only in their
 * repair, weight type or measures share them and come one after another, so only the latest plans are kept.
 */
class LatestPlans {
  #key = ''
  #plans: Plan[] = []
  readonly #sizes = new Map<string, Promise<FormatOutline[]>>()

  of({ path, spec }: Outside, { method, amount, options, vocabulary }: RunRequest): Plan[] {
    const key = JSON.stringify([path, method, amount, options, vocabulary])
    if (key === this.#key) return this.#plans
    this.#plans = expectedPlans(spec, { method, amount, options, ...(vocabulary ? { vocabulary } : {}) })
    this.#key = key
    this.#sizes.clear()
    return this.#plans
  }

  sizes(model: Outside, request: RunRequest): Promise<FormatOutline[]> {
    const plans = this.of(model, request)
    const { weights = '' } = request
    const { spec, checkpoint } = model
    const found =
      this.#sizes.get(weights) ??
      outlineLikely({ spec, checkpoint }, plans, Object.keys(formatTitles), weights ? [weights] : previewedTypes)
    this.#sizes.set(weights, found)
    return found
  }
}

class RequestCheck {
  #request: RunRequest
  readonly #model: Outside
  readonly #plans: LatestPlans
  readonly #signal: AbortSignal | undefined
  readonly #checks: DataChecks
  #feasibleRange: RequestPreview['feasibleRange'] = null
  #repairBytes = 0
  #methodBytes = 0
  #recoveryBytes = 0
  #fileRange: RequestPreview['fileRange'] = null

  constructor(request: RunRequest, model: Outside, { answers, plans, signal }: Shared) {
    this.#request = request
    this.#model = model
    this.#plans = plans
    this.#signal = signal
    this.#checks = new DataChecks(request, model, answers)
  }

  async check(): Promise<RequestPreview> {
    const { method, calibration, repair, recover, measures, memoryBytes } = this.#request
    const { spec } = this.#model
    await this.#try('vocabulary', async () => requireTrimmable(this.#request, this.#model))
    const possible = await this.#possible()
    const amount = possible?.outline
    await this.#try('memoryBytes', async () => checkMemory(this.#model, memoryBytes))
    await this.#try('precision', () => this.#checkPrecision())
    await this.#try('weights', () => this.#checkMixed())
    await this.#try('beginToken', () => this.#checkBegin())
    if (repair) await this.#checks.data('repair.calibration', repair.calibration)
    if (repair && possible) await this.#try('repair', () => this.#checkRepairRoom(repair))
    if (recover && (method === denseMethod || isAblation(method) || isInspection(method)))
      this.#checks.refuse('recover', 'usage', 'Only a pruned model can be recovered. Choose a pruning method, or no recovery.')
    if (recover) await this.#checks.data('recover.text', recover.text)
    if (recover && possible) await this.#try('recover', () => this.#checkRecoveryRoom(recover))
    if (calibration) await this.#checks.data('calibration', calibration, countsAll(this.#request))
    else if (method !== denseMethod && !isInspection(method))
      this.#checks.refuse('calibration', 'usage', 'This method needs calibration data. Choose a text for it.')
    for (const [at, measure] of measures.entries()) await this.#checks.measure(`measures.${at}`, measure)
    if (isAblation(method) && !measures.some(({ kind }) => kind === 'perplexity'))
      this.#checks.refuse('measures', 'usage', 'An ablation compares its trials by perplexity. Choose a text to measure it on.')
    await this.#checks.inspection()
    return {
      ...(amount ?? nothing),
      feasibleRange: this.#feasibleRange,
      fileRange: this.#fileRange,
      problems: this.#checks.problems,
      notes: [
        ...(amount?.expertsRemoved ? [expertsNote(spec, this.#request, amount)] : []),
        ...lengthsOf(this.#request).flatMap((length) => (length > spec.contextLength ? longWindowNote(spec, length) : [])),
      ],
      formats: await this.#formats(),
      fetches: this.#checks.fetches,
      memoryBytes: this.#memoryBytes,
      work: this.#checks.problems.length > 0 ? null : await workOf(this.#model, this.#request, this.#signal).catch(() => null),
    }
  }

  /** Counts the memory that the run needs, whatever else is wrong with the request. */
  async countMemory(): Promise<number> {
    const { repair, recover } = this.#request
    const possible = await this.#possible()
    if (repair && possible) await this.#try('repair', () => this.#checkRepairRoom(repair))
    if (recover && possible) await this.#try('recover', () => this.#checkRecoveryRoom(recover))
    return this.#memoryBytes
  }

  get #memoryBytes(): number {
    const { spec } = this.#model
    const ownBytes = Math.max(this.#repairBytes, this.#methodBytes)
    return memoryNeeded(spec, this.#request, { ownBytes, trainingBytes: this.#recoveryBytes, left: this.#left() })
  }

  #workspaceBytes(): number {
    const { spec, checkpoint } = this.#model
    return divideMemory(spec, this.#request.memoryBytes, leastBytes(checkpoint, spec)).workspaceBytes
  }

  /** Models that the run may leave; the whole one if they cannot be known. */
  #left(): DecoderSpec[] {
    const { spec } = this.#model
    const { method } = this.#request
    if (method === denseMethod || isAblation(method) || isInspection(method) || this.#checks.problems.length > 0) return [spec]
    return this.#plans.of(this.#model, this.#request).map((plan) => specWithPlan(spec, plan))
  }

  /**
   * Whether the method can do what is asked. `outline` is what the amount removes; undefined where only the run finds that out. Undefined
   * for runs that prune nothing, and after a refusal.
   */
  async #possible(): Promise<{ readonly outline: Outline | undefined } | undefined> {
    const before = this.#checks.problems.length
    const chosen = this.#chosen()
    if (!chosen) return undefined
    await this.#try('amount', () => this.#foresee())
    const outline = this.#outline(chosen)
    return this.#checks.problems.length === before ? { outline } : undefined
  }

  /** Replaces a budget by the sparsity that meets it. */
  async #foresee(): Promise<void> {
    const { amount } = this.#request
    if (isPlain(amount)) {
      const range = await ggufRange(this.#model, this.#request)
      this.#fileRange = range && { ...range, predicted: null }
    }
    if (!('bytes' in amount) || mixedBudget(amount)) return
    try {
      const { sparsity, predicted, least, most } = await foreseeBudget(this.#model, this.#request, amount)
      this.#fileRange = { least, most, predicted }
      this.#request = { ...this.#request, amount: { sparsity } }
    } catch (thrown) {
      const range = thrown instanceof EspalierError && (thrown.details?.range as { least: number; most: number } | undefined)
      if (range) this.#fileRange = { ...range, predicted: null }
      throw thrown
    }
  }

  /** Refuses mixed types in a file that is too small for the model, or whose size the amount gives too. */
  async #checkMixed(): Promise<void> {
    const { weights = '', method, amount, options, vocabulary } = this.#request
    const bytes = mixedBytes(weights)
    if (bytes === undefined) return
    const divides = mixedBudget(amount) !== undefined
    if (divides && vocabulary)
      throw new EspalierError('usage', `${amountText(amount)} cannot be divided while rows of the vocabulary go first. Give a sparsity.`)
    if (divides && method !== 'gates')
      throw new EspalierError(
        'usage',
        `${titleOfMethod(method)} cannot divide ${amountText(amount)} between parts and bits. Choose Gates, or a sparsity.`,
      )
    if (!divides && !isPlain(amount))
      throw new EspalierError(
        'usage',
        `The ${weightText(weights)} set the size of the file. Give a sparsity as the amount, or another type.`,
      )
    // A pruned model may become smaller than the dense one, but how much is known only for gates, which may remove up to their most.
    if (!divides && method !== denseMethod) return
    const { spec } = this.#model
    // Plans of gates are made only if the dense model does not fit, as a preview asks after each change.
    function* plans(): Iterable<Plan> {
      yield densePlan(spec)
      if (divides) yield* expectedPlans(spec, { method, amount: { sparsity: findMethod(method).range(spec, options).most } })
    }
    const bytesOf = (plan: Plan) => gguf.fileBytes({ model: this.#model, plan, method }, weights)
    await requireMixedTypes(this.#model, plans(), bytes, bytesOf)
  }

  /** Refuses a begin token that the model does not have. What `auto` decides is measured by the run. */
  async #checkBegin(): Promise<void> {
    if (this.#request.beginToken === 'always') requireBeginToken(this.#model)
  }

  /** Opens the runtime only for a precision that it may not support. */
  async #checkPrecision(): Promise<void> {
    const { precision = 'float32', backend } = this.#request
    if (precision === 'float32' || precision === 'auto') return
    await openBackend(backend)
    resolvePrecision(precision, this.#model.spec)
  }

  /**
   * If the request uses the whole text, its windows are not counted yet. The check then assumes the fewest that a repair takes.
   */
  async #checkRepairRoom({ kind, calibration }: RepairRequest): Promise<void> {
    const { spec } = this.#model
    const { windows = fewestRepairWindows, sequenceLength } = calibration
    const workspaceBytes = this.#workspaceBytes()
    const plans = this.#plans.of(this.#model, this.#request)
    const bytesOf = (count: number) => {
      const text = { windows: count, tokens: count * sequenceLength }
      return Math.max(...plans.map((plan) => repairRoom(workspaceBytes, spec, plan, text, kind).bytes))
    }
    const refusal = (count: number) => {
      try {
        this.#repairBytes = bytesOf(count)
        return undefined
      } catch (thrown) {
        return thrown
      }
    }
    const refused = refusal(windows)
    if (!(refused instanceof EspalierError)) return
    // A run uses no more windows than the text has.
    const offered = await this.#checks.windowsOf(calibration)
    if (offered !== undefined && offered < windows && !refusal(offered)) return
    const known = offered === undefined ? '' : ` The text offers ${plural(offered, 'window')}${offered === mostCounted ? ' or more' : ''}.`
    throw new EspalierError(refused.code, `${refused.message}${known}`, refused.details)
  }

  /**
   * Refuses a recovery that does not fit in memory, before anything is read. It checks the likely plans of the method, which have about the
   * same size.
   */
  async #checkRecoveryRoom({ text, trains }: RecoveryRequest): Promise<void> {
    const { spec } = this.#model
    const { left, vocabularyStays } = divideMemory(spec, this.#request.memoryBytes)
    requireWholeHead(vocabularyStays, spec)
    const rooms = this.#plans.of(this.#model, this.#request).map((plan) => roomFor(left, spec, plan, text.sequenceLength, trains))
    this.#recoveryBytes = Vocabulary.bytes(spec) + Math.max(...rooms.map(({ bytes }) => bytes))
  }

  /** The pruning method with its options; undefined if there is none, or if it is refused. */
  #chosen(): Chosen | undefined {
    const { method: id, options: given, repair, recover, calibration } = this.#request
    const { spec } = this.#model
    if (id === denseMethod || isInspection(id)) return undefined
    return this.#refusing(() => {
      if (isAblation(id)) {
        const ablation = findAblation(id)
        ablation.check(spec, parseOptions(ablation, given))
        return undefined
      }
      const method = findMethod(id)
      const options = parseOptions(method, given)
      this.#methodBytes = method.bytes?.(spec, options, calibration?.sequenceLength ?? 0, this.#workspaceBytes()) ?? 0
      if (repair) requireRefit(method, options, 'repaired', 'repair')
      if (recover && spec.router) throw new EspalierError('infeasible', `${untrainable} Choose no recovery.`)
      if (recover) requireRefit(method, options, 'recovered', 'recovery')
      return { method, options }
    })
  }

  /** What the amount removes; undefined if only the run finds that out, or if it is refused. */
  #outline({ method, options }: Chosen): Outline | undefined {
    const { amount } = this.#request
    const { spec } = this.#model
    if (!isPlain(amount)) return undefined
    return this.#refusing(() => {
      requireAmount(method, amount)
      const budget = budgetFor(spec, amount)
      const { least, most } = method.range(spec, options)
      this.#feasibleRange = { minimum: least, maximum: most }
      // If a method can remove nothing from this model, its outline throws the reason.
      if (most === 0) outlineOf(method, spec, budget, options)
      if (budget.experts === undefined && budget.sparsity > most + 1e-9)
        throw new EspalierError(
          'infeasible',
          `Sparsity ${Number(budget.sparsity.toFixed(4))} is out of reach: ${method.title} removes at most ${(100 * most).toFixed(1)} % of this model's ${method.unit === 'vocabulary' ? 'parameters' : 'block stack'}. Choose at most ${most.toFixed(3)}.`,
        )
      return outlineOf(method, spec, budget, options)
    })
  }

  /** What a look at the method finds; undefined after a problem with an option, the amount or the method. */
  #refusing<T>(look: () => T): T | undefined {
    try {
      return look()
    } catch (thrown) {
      const { code, message, details } = toErrorMessage(thrown)
      const issues = details?.issues as { field: string; message: string }[] | undefined
      if (issues) for (const issue of issues) this.#checks.refuse(`options.${issue.field}`, code, issue.message)
      else this.#checks.refuse(code === 'infeasible' ? 'amount' : 'method', code, message)
      return undefined
    }
  }

  /** The size of the result in each format; empty if the amount is out of reach. */
  async #formats(): Promise<FormatOutline[]> {
    const { method } = this.#request
    if (isAblation(method) || isInspection(method) || this.#checks.problems.some(({ code }) => code === 'infeasible' || code === 'usage'))
      return []
    return this.#plans.sizes(this.#model, this.#request)
  }

  async #try(field: string, look: () => Promise<unknown>): Promise<void> {
    await look().catch((thrown: unknown) => {
      // This process has opened another runtime, so it cannot answer. The caller asks another process.
      if (thrown instanceof EspalierError && thrown.details?.anotherProcess) throw thrown
      this.#checks.problems.push(toProblem(field, thrown))
    })
  }
}

const nothing: Outline = { attentionRemoved: null, blocksRemoved: null, neuronsRemovedPerBlock: null, reached: null }

/** A note on what removing experts saves. */
function expertsNote(
  spec: DecoderSpec,
  request: RunRequest,
  { expertsRemoved, attentionRemoved, neuronsRemovedPerBlock }: Outline,
): string {
  const [plan = densePlan(spec)] = expectedPlans(spec, request)
  const rest = Vocabulary.parameters(spec)
  const [before, after] = [spec, specWithPlan(spec, plan)].map((one) => {
    const { total, active } = activeParameters(one)
    return { total: (total + rest).toLocaleString('en'), active: (active + rest).toLocaleString('en') }
  })
  const totals = `the model has ${after?.total} parameters instead of ${before?.total}`
  if (attentionRemoved || neuronsRemovedPerBlock)
    return `Removing ${expertsRemoved} experts saves memory, and the other removals also save time: ${totals}, and each token uses ${after?.active} of them instead of ${before?.active}.`
  return `Removing ${expertsRemoved} experts saves memory, not time: ${totals}, but each token still uses ${after?.active} of them (before: ${before?.active}).`
}

/** The distinct window lengths of a request, in tokens. */
function lengthsOf({ calibration, measures }: RunRequest): number[] {
  const measured = measures.flatMap((measure) =>
    measure.kind === 'perplexity' ? [measure.data.sequenceLength] : measure.kind === 'inference' ? [measure.sequenceLength] : [],
  )
  return [...new Set([...(calibration ? [calibration.sequenceLength] : []), ...measured])]
}

/** A share of experts is an amount only of methods that remove nothing else. */
function requireAmount({ title, unit }: Method, amount: RunRequest['amount']): void {
  if (unit === 'experts' || !('experts' in amount)) return
  throw new EspalierError('infeasible', `${title} does not take a share of experts as its amount. Choose a sparsity, or REAP.`)
}

function requireRefit({ title, refitProblem }: Method, options: Record<string, unknown>, done: string, noun: string): void {
  const problem = refitProblem?.(options)
  if (problem) throw new EspalierError('infeasible', `${title} cannot be ${done}: ${problem}. Choose no ${noun}.`)
}

/** A model before any weight is read. */
export interface Outside {
  readonly path: string
  readonly name: string
  /** The closed checkpoint. Only names and shapes of tensors can be read. */
  readonly checkpoint: Checkpoint
  readonly spec: DecoderSpec
  readonly tokenizer: Tokenizer | undefined
}

/** Checks the texts, questions and prompts of one request, and collects its problems and the files to download. */
export class DataChecks {
  readonly problems: Problem[] = []
  readonly fetches: RequestPreview['fetches'] = []
  readonly #request: RunRequest
  readonly #model: Outside
  /** Results of checks that several requests share, by what was checked. */
  readonly #answers: Map<string, Promise<Problem[]>>

  constructor(request: RunRequest, model: Outside, answers: Map<string, Promise<Problem[]>>) {
    this.#request = request
    this.#model = model
    this.#answers = answers
  }

  refuse(field: string, code: Problem['code'], message: string): void {
    this.problems.push({ field, code, message })
  }

  /** Checks a text of which windows are used, or, if `whole`, that is read to its end. */
  async data(field: string, { source, mix, split, sequenceLength }: DataRequest, whole = false): Promise<void> {
    for (const part of mix ?? [{ source, split }]) await this.#text(field, { ...part, sequenceLength }, whole)
  }

  async #text(
    field: string,
    { source, split, sequenceLength }: Pick<DataRequest, 'source' | 'split' | 'sequenceLength'>,
    whole: boolean,
  ): Promise<void> {
    const { localFolder } = this.#request
    const { spec, tokenizer } = this.#model
    if (source === selfWritten && field === 'recover.text') {
      if (!tokenizer) this.refuse(field, 'invalid', withoutTokenizer('write text'))
      return
    }
    if (isDatasetId(source) && localFolder === undefined) {
      if (!tokenizer) this.refuse(field, 'invalid', withoutTokenizer('read text'))
      this.fetches.push({ field, ...fileOfDataset(source), of: { id: source, title: datasetTitles[source] } })
      return
    }
    // Reading one window shows that the text exists, is readable and is long enough.
    const read = () =>
      readData({ spec }, tokenizer, { source, sequenceLength, windows: 1, ...(split ? { split } : {}) }, 0, { localFolder })
    if (whole && tokenizer && !split) await this.#once(`${source} whole`, field, () => requireText(source, localFolder))
    else await this.#once(`${source} ${sequenceLength} ${split?.part} ${split?.seed}`, field, read)
  }

  /** How many windows a text has, up to `mostCounted`; undefined if it cannot be read here. */
  async windowsOf({ windows: _, ...data }: DataRequest): Promise<number | undefined> {
    const { tokenizer, spec } = this.#model
    const { localFolder } = this.#request
    return readData({ spec }, tokenizer, { ...data, windows: mostCounted }, 0, { localFolder }).then(
      ({ windows }) => windows.length,
      () => undefined,
    )
  }

  async measure(field: string, measure: MeasureRequest): Promise<void> {
    if (measure.kind === 'perplexity' || measure.kind === 'repetition') return this.data(`${field}.data`, measure.data)
    if (measure.kind === 'inference') return
    const { tokenizer, spec } = this.#model
    if (!tokenizer) return this.refuse(field, 'invalid', withoutTokenizer(usesOfTokenizer[measure.kind]))
    if (measure.kind === 'long context') return this.data(`${field}.data`, withinContext(measure.data, spec.contextLength))
    if (measure.kind === 'tasks') return this.#questions(field, measure, tokenizer)
    for (const prompt of measure.prompts) {
      const { length } = encodeText(tokenizer, prompt)
      if (length === 0 || length >= measure.maxLength)
        this.refuse(
          `${field}.prompts`,
          'usage',
          `The prompt "${prompt.slice(0, 40)}" has ${length} tokens; prompt and answer together may have ${measure.maxLength}.`,
        )
    }
  }

  async #questions(field: string, measure: Extract<MeasureRequest, { kind: 'tasks' }>, { chats }: Tokenizer): Promise<void> {
    const { tasks, folder, chat } = measure
    const { contextLength } = this.#model.spec
    for (const task of tasks) {
      if (isWrittenTaskId(task)) {
        const of = { id: task, title: everyTaskTitle[task] }
        await this.#once(`${task} in ${contextLength}`, field, async () => requireRoom(writtenTasks[task], contextLength), of)
        if (chat && !chats) this.refuse(field, 'invalid', 'This model has no chat template. Ask the questions as plain text.')
      } else if (!isTaskId(task)) {
        this.refuse(field, 'usage', unknownTask(task))
        continue
      }
      if (folder !== undefined) await this.#once(`${folder} ${task}`, field, () => checkQuestions(task, folder))
      else for (const file of questionFiles(task)) this.fetches.push({ field, ...file, of: { id: task, title: everyTaskTitle[task] } })
    }
  }

  /** Checks the data of an inspection: its text, or that its prompts fit the model's context. */
  async inspection(): Promise<void> {
    const { inspect } = this.#request
    if (inspect?.kind === 'divergence') return this.data('inspect.data', inspect.data)
    if (inspect?.kind !== 'generation') return
    const { tokenizer, spec } = this.#model
    if (!tokenizer) return this.refuse('inspect', 'invalid', withoutTokenizer('answer prompts'))
    for (const { text } of inspect.prompts) {
      const { length } = encodeText(tokenizer, text)
      if (length === 0 || length >= spec.contextLength)
        this.refuse(
          'inspect.prompts',
          'usage',
          `The prompt "${text.slice(0, 40)}" has ${length} tokens; this model reads 1 to ${spec.contextLength - 1}.`,
        )
    }
  }

  /** Runs a check, once for all requests that share it. */
  async #once(what: string, field: string, look: () => Promise<unknown>, of?: Problem['of']): Promise<void> {
    const key = `${this.#model.path} ${this.#request.localFolder ?? ''} ${what}`
    const known =
      this.#answers.get(key) ??
      look().then(
        () => [],
        (thrown: unknown) => [toProblem('', thrown)],
      )
    this.#answers.set(key, known)
    this.problems.push(...(await known).map((problem) => ({ ...problem, field, ...(of ? { of } : {}) })))
  }
}

/** Whether a request's method counts all of its text. */
function countsAll({ method, options, calibration }: RunRequest): boolean {
  if (isAblation(method) || isInspection(method) || method === denseMethod || calibration?.windows !== undefined) return false
  if (!Object.hasOwn(methods, method)) return false
  const { readsAll, options: known } = findMethod(method)
  const parsed = known.safeParse(options)
  return parsed.success && readsAll?.(parsed.data) === true
}

/** Reads the beginning of a text, which shows that it exists, can be read and is not empty. */
async function requireText(source: string, localFolder: string | undefined): Promise<void> {
  const { path } = await locate(source, { localFolder })
  const found = await openSource(path)
  if (found.kind !== 'documents') return
  for await (const text of found.joined()) if (text.trim() !== '') return
  throw new EspalierError('invalid', `${path} has no text. Choose another text.`)
}

export function toProblem(field: string, thrown: unknown): Problem {
  const { code, message } = toErrorMessage(thrown)
  return { field, code, message }
}
