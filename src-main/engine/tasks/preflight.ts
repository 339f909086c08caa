import { basename } from 'node:path'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { FormatOutline } from '#contract/exports/exports.ts'
import { untrainable } from '#contract/pruning/default-recovery.ts'
import type { RecoveryRequest } from '#contract/pruning/recovery.ts'
import { isPlain } from '#contract/runs/amount-text.ts'
import type { Outline, Problem, RequestPreview } from '#contract/runs/preflight.ts'
import type { RepairRequest, RunRequest } from '#contract/runs/run-request.ts'
import type { Work } from '#contract/runs/time/estimate.ts'
import { denseMethod, formatTitles, type GgufType, isAblation, isInspection } from '#contract/titles.ts'
import { activeParameters, stackParameters } from '#engine/architectures/parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { foreseeBudget, ggufRange, plainAmount } from '#engine/budgets/foresee.ts'
import { longWindowNote } from '#engine/data/read-data.ts'
import { expectedPlans, outlineLikely } from '#engine/export/check-save.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { checkMemory, divideMemory, openSpec } from '#engine/model/model.ts'
import { resolvePrecision } from '#engine/model/precision.ts'
import { specWithPlan } from '#engine/model/views/sliced-spec.ts'
import { leastBytes } from '#engine/model/weights/residency.ts'
import { Vocabulary } from '#engine/model/weights/vocabulary.ts'
import { findAblation } from '#engine/pruning/ablations/index.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { Method } from '#engine/pruning/method.ts'
import { parseOptions } from '#engine/pruning/options.ts'
import { outlineOf } from '#engine/pruning/outline.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { requireWholeHead, roomFor } from '#engine/pruning/recovery/room.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { repairRoom } from '#engine/pruning/repair/room.ts'
import { workOf } from '../estimate/work.ts'
import { DataChecks, type Outside, toProblem } from './data-checks.ts'
import { retiredIn } from './retired.ts'

/** GGUF types shown in a preview: F16, and the most popular quantised type. */
const previewedTypes: readonly GgufType[] = ['F16', 'Q4_K_M']

/** Previews requests: what each would remove and need, and its problems. Reads no weights and computes nothing. */
export async function preflightRequests(requests: readonly RunRequest[]): Promise<RequestPreview[]> {
  const models = new Map<string, Promise<Outside>>()
  // The runs of a grid share their texts, so each text is checked only once.
  const answers = new Map<string, Promise<Problem[]>>()
  const previews: RequestPreview[] = []
  for (const request of requests) {
    const opened = models.get(request.model) ?? openOutside(request.model)
    models.set(request.model, opened)
    previews.push(await new Preflight(request, await opened, answers).check())
  }
  return previews
}

/** The work of each request, without checking the request; null if its model or text no longer exists. */
export async function workOfRequests(requests: readonly RunRequest[]): Promise<(Work | null)[]> {
  const models = new Map<string, Promise<Outside>>()
  const works: (Work | null)[] = []
  for (const request of requests) {
    const opened = models.get(request.model) ?? openOutside(request.model)
    models.set(request.model, opened)
    const plain = async (model: Outside) => ({ ...request, amount: await plainAmount(model, request) })
    works.push(await opened.then(async (model) => workOf(model, await plain(model))).catch(() => null))
  }
  return works
}

async function openOutside(path: string): Promise<Outside> {
  const { checkpoint, spec } = await openSpec(path)
  await checkpoint.close()
  return { path, name: basename(checkpoint.path), checkpoint, spec, tokenizer: await openModelTokenizer({ path, spec }) }
}

class Preflight {
  #request: RunRequest
  readonly #model: Outside
  readonly #checks: DataChecks
  #feasibleRange: RequestPreview['feasibleRange'] = null
  #repairBytes = 0
  #recoveryBytes = 0
  #fileRange: RequestPreview['fileRange'] = null

  constructor(request: RunRequest, model: Outside, answers: Map<string, Promise<Problem[]>>) {
    this.#request = request
    this.#model = model
    this.#checks = new DataChecks(request, model, answers)
  }

  async check(): Promise<RequestPreview> {
    const { method, calibration, repair, recover, measures, memoryBytes } = this.#request
    const { spec } = this.#model
    await this.#try('amount', () => this.#foresee())
    const amount = this.#amount()
    await this.#try('memoryBytes', () => checkMemory(this.#model.path, memoryBytes))
    await this.#try('precision', () => this.#checkPrecision())
    if (repair) await this.#checks.data('repair.calibration', repair.calibration)
    if (repair && amount) await this.#try('repair', async () => this.#checkRepairRoom(repair))
    if (recover && (method === denseMethod || isAblation(method) || isInspection(method)))
      this.#checks.refuse('recover', 'usage', 'Only a pruned model can be recovered. Choose a pruning method, or no recovery.')
    if (recover) await this.#checks.data('recover.text', recover.text)
    if (recover && amount) await this.#try('recover', () => this.#checkRecoveryRoom(recover))
    if (calibration) await this.#checks.data('calibration', calibration)
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
        ...retiredIn(this.#request),
        ...(amount?.expertsRemoved ? [expertsNote(spec, this.#request, amount)] : []),
        ...lengthsOf(this.#request).flatMap((length) => (length > spec.contextLength ? longWindowNote(spec, length) : [])),
      ],
      formats: await this.#formats(),
      fetches: this.#checks.fetches,
      memoryBytes: Math.max(memoryNeeded(spec, this.#request, this.#repairBytes), this.#recoveryBytes),
      work: this.#checks.problems.length > 0 ? null : await workOf(this.#model, this.#request).catch(() => null),
    }
  }

  /** Replaces a budget by the sparsity that meets it. */
  async #foresee(): Promise<void> {
    const { amount, method } = this.#request
    if (method === denseMethod || isAblation(method) || isInspection(method)) return
    if (isPlain(amount)) {
      const range = await ggufRange(this.#model, this.#request)
      this.#fileRange = range && { ...range, predicted: null }
    }
    if (!('bytes' in amount)) return
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

  /** Opens the runtime only for a precision that it may not support. */
  async #checkPrecision(): Promise<void> {
    const { precision = 'float32', backend } = this.#request
    if (precision === 'float32' || precision === 'auto') return
    await openBackend(backend)
    resolvePrecision(precision, this.#model.spec)
  }

  /**
   * If the request uses the whole text, its windows are not counted yet. The check then assumes the minimum of two: one to fit on and one
   * held out.
   */
  #checkRepairRoom({ kind, calibration: { windows = 2, sequenceLength } }: RepairRequest): void {
    const { spec, checkpoint } = this.#model
    const { workspaceBytes } = divideMemory(spec, this.#request.memoryBytes, leastBytes(checkpoint, spec))
    const text = { windows, tokens: windows * sequenceLength }
    const rooms = expectedPlans(spec, this.#request).map((plan) => repairRoom(workspaceBytes, spec, plan, text, kind))
    this.#repairBytes = Math.max(...rooms.map(({ bytes }) => bytes))
  }

  /**
   * Refuses a recovery that does not fit in memory, before anything is read. It checks the likely plans of the method, which have about the
   * same size.
   */
  async #checkRecoveryRoom({ text, trains }: RecoveryRequest): Promise<void> {
    const { spec } = this.#model
    const { left, vocabularyStays } = divideMemory(spec, this.#request.memoryBytes)
    requireWholeHead(vocabularyStays, spec)
    const rooms = expectedPlans(spec, this.#request).map((plan) => roomFor(left, spec, plan, text.sequenceLength, trains))
    this.#recoveryBytes = Vocabulary.bytes(spec) + Math.max(...rooms.map(({ bytes }) => bytes))
  }

  /** The outline of the requested amount; undefined if it cannot be known. */
  #amount(): Outline | undefined {
    const { method: id, options: given, amount, repair, recover } = this.#request
    const { spec } = this.#model
    if (id === denseMethod || isInspection(id) || !isPlain(amount)) return undefined
    try {
      if (isAblation(id)) {
        const ablation = findAblation(id)
        ablation.check(spec, parseOptions(ablation, given))
        return undefined
      }
      const method = findMethod(id)
      const options = parseOptions(method, given)
      if (repair) requireRefit(method, options, 'repaired', 'repair')
      if (recover && spec.router) throw new EspalierError('infeasible', `${untrainable} Choose no recovery.`)
      if (recover) requireRefit(method, options, 'recovered', 'recovery')
      const budget = budgetFor(spec, amount)
      const { least, most } = method.range(spec, options)
      this.#feasibleRange = { minimum: least, maximum: most }
      // If a method can remove nothing from this model, its outline throws the reason.
      if (most === 0) outlineOf(method, spec, budget, options)
      if (budget.sparsity > most + 1e-9)
        throw new EspalierError(
          'infeasible',
          `Sparsity ${Number(budget.sparsity.toFixed(4))} is out of reach: ${method.title} removes at most ${(100 * most).toFixed(1)} % of this model's block stack. Choose at most ${most.toFixed(3)}.`,
        )
      return outlineOf(method, spec, budget, options)
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
    const { method, amount, options } = this.#request
    if (isAblation(method) || isInspection(method) || this.#checks.problems.some(({ code }) => code === 'infeasible' || code === 'usage'))
      return []
    const { spec, checkpoint } = this.#model
    const plans = expectedPlans(spec, { method, amount, options })
    return outlineLikely({ spec, checkpoint }, plans, Object.keys(formatTitles), previewedTypes)
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
    return { total: (total + rest).toLocaleString('en-US'), active: (active + rest).toLocaleString('en-US') }
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

function requireRefit({ title, refitProblem }: Method, options: Record<string, unknown>, done: string, noun: string): void {
  const problem = refitProblem?.(options)
  if (problem) throw new EspalierError('infeasible', `${title} cannot be ${done}: ${problem}. Choose no ${noun}.`)
}

/**
 * Bytes needed to keep everything in memory: float32 weights, and the activations of one window or those of a repair. Limited by the memory
 * budget.
 */
function memoryNeeded(spec: DecoderSpec, { calibration, memoryBytes }: RunRequest, repairBytes: number): number {
  const weights = 4 * stackParameters(spec) + Vocabulary.bytes(spec)
  const streams = 4 * 2 * spec.blocks.length * (calibration?.sequenceLength ?? 0) * spec.hidden
  return Math.min(weights + Math.max(streams, repairBytes), memoryBytes ?? Number.POSITIVE_INFINITY)
}
