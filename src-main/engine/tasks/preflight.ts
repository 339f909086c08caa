import type { DataRequest } from '#contract/data/data-request.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { FormatOutline } from '#contract/exports/exports.ts'
import type { RecoveryRequest } from '#contract/pruning/recovery.ts'
import type { Work } from '#contract/runs/estimate.ts'
import type { Outline, Problem, RequestPreview } from '#contract/runs/preflight.ts'
import type { MeasureRequest, RunRequest } from '#contract/runs/run-request.ts'
import { denseMethod, formatTitles, type GgufType, isAblation, isInspection, selfWritten } from '#contract/titles.ts'
import { type DecoderSpec, stackParameters } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { fileOfDataset, isDatasetId } from '#engine/data/named.ts'
import { longWindowNote, readData } from '#engine/data/read-data.ts'
import { isTaskId, taskIds } from '#engine/evaluation/tasks/index.ts'
import { checkQuestions, questionFile } from '#engine/evaluation/tasks/questions.ts'
import { expectedPlans, outlineLikely } from '#engine/export/check-save.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { checkMemory, freeBytesOf, openSpec } from '#engine/model/model.ts'
import { resolvePrecision } from '#engine/model/precision.ts'
import { Vocabulary } from '#engine/model/weights/vocabulary.ts'
import { findAblation } from '#engine/pruning/ablations/index.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { Method } from '#engine/pruning/method.ts'
import { parseOptions } from '#engine/pruning/options.ts'
import { outlineOf } from '#engine/pruning/outline.ts'
import { roomFor } from '#engine/pruning/recovery/room.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { workOf } from '../estimate/work.ts'
import { retiredIn } from './retired.ts'

/** GGUF types of a preview: the plain one and the most popular one. */
const previewedTypes: readonly GgufType[] = ['F16', 'Q4_K_M']

/** A model as far as it has to be known before any weight is read. */
interface Outside {
  readonly path: string
  /** Closed: only its names and shapes are asked for. */
  readonly checkpoint: Checkpoint
  readonly spec: DecoderSpec
  readonly tokenizer: Tokenizer | undefined
}

/** What each request would remove and need, and its problems. No weights are read and nothing is computed. */
export async function preflightRequests(requests: readonly RunRequest[]): Promise<RequestPreview[]> {
  const models = new Map<string, Promise<Outside>>()
  // Runs of a grid share their data: each text is looked at once.
  const answers = new Map<string, Promise<Problem[]>>()
  const previews: RequestPreview[] = []
  for (const request of requests) {
    const opened = models.get(request.model) ?? openOutside(request.model)
    models.set(request.model, opened)
    previews.push(await new Preflight(request, await opened, answers).check())
  }
  return previews
}

/** What requests have to do, without checking them; null where a model or a text is gone. */
export async function workOfRequests(requests: readonly RunRequest[]): Promise<(Work | null)[]> {
  const models = new Map<string, Promise<Outside>>()
  const works: (Work | null)[] = []
  for (const request of requests) {
    const opened = models.get(request.model) ?? openOutside(request.model)
    models.set(request.model, opened)
    works.push(await opened.then((model) => workOf(model, request)).catch(() => null))
  }
  return works
}

async function openOutside(path: string): Promise<Outside> {
  const { checkpoint, spec } = await openSpec(path)
  await checkpoint.close()
  return { path, checkpoint, spec, tokenizer: await openModelTokenizer({ path, spec }) }
}

class Preflight {
  readonly #request: RunRequest
  readonly #model: Outside
  readonly #answers: Map<string, Promise<Problem[]>>
  readonly #problems: Problem[] = []
  readonly #fetches: RequestPreview['fetches'] = []

  constructor(request: RunRequest, model: Outside, answers: Map<string, Promise<Problem[]>>) {
    this.#request = request
    this.#model = model
    this.#answers = answers
  }

  async check(): Promise<RequestPreview> {
    const { method, calibration, repair, recover, measures, memoryBytes } = this.#request
    const { spec } = this.#model
    const amount = this.#amount()
    await this.#try('memoryBytes', () => checkMemory(this.#model.path, memoryBytes))
    await this.#try('precision', () => this.#checkPrecision())
    if (repair) await this.#data('repair.calibration', repair.calibration)
    if (recover && (method === denseMethod || isAblation(method) || isInspection(method)))
      this.#refuse('recover', 'usage', 'Only a pruned model can be recovered. Choose a pruning method, or no recovery.')
    if (recover) await this.#data('recover.text', recover.text)
    if (recover && amount) await this.#try('recover', () => this.#checkRecoveryRoom(recover))
    if (calibration) await this.#data('calibration', calibration)
    else if (method !== denseMethod && !isInspection(method))
      this.#refuse('calibration', 'usage', 'This needs calibration data. Choose a text for it.')
    for (const [at, measure] of measures.entries()) await this.#measure(`measures.${at}`, measure)
    if (isAblation(method) && !measures.some(({ kind }) => kind === 'perplexity'))
      this.#refuse('measures', 'usage', 'An ablation is judged by perplexity. Choose a text to take it on.')
    await this.#inspection()
    return {
      feasibleRange: null,
      ...(amount ?? nothing),
      problems: this.#problems,
      notes: [
        ...retiredIn(this.#request),
        ...lengthsOf(this.#request).flatMap((length) => (length > spec.contextLength ? longWindowNote(spec, length) : [])),
      ],
      formats: await this.#formats(),
      fetches: this.#fetches,
      memoryBytes: memoryNeeded(spec, this.#request),
      work: this.#problems.length > 0 ? null : await workOf(this.#model, this.#request).catch(() => null),
    }
  }

  /** The runtime is asked only where a precision could be out of its reach. */
  async #checkPrecision(): Promise<void> {
    const { precision = 'float32', backend } = this.#request
    if (precision === 'float32' || precision === 'auto') return
    await openBackend(backend)
    resolvePrecision(precision)
  }

  /** Methods leave plans of about one size: what fits for none of them is refused before anything is read. */
  async #checkRecoveryRoom({ text, trains }: RecoveryRequest): Promise<void> {
    const { spec } = this.#model
    const freeBytes = freeBytesOf(spec, this.#request.memoryBytes)
    for (const plan of expectedPlans(spec, this.#request)) roomFor(freeBytes, spec, plan, text.sequenceLength, trains)
  }

  /** What the amount comes to with these options; undefined where that cannot be said. */
  #amount(): (Outline & Pick<RequestPreview, 'feasibleRange'>) | undefined {
    const { method: id, options: given, amount, repair, recover } = this.#request
    const { spec } = this.#model
    if (id === denseMethod || isInspection(id)) return undefined
    try {
      if (isAblation(id)) {
        const ablation = findAblation(id)
        ablation.check(spec, parseOptions(ablation, given))
        return undefined
      }
      const method = findMethod(id)
      const options = parseOptions(method, given)
      if (repair) requireRefit(method, options, 'repaired', 'repair')
      if (recover) requireRefit(method, options, 'recovered', 'recovery')
      if (recover && spec.delta)
        throw new EspalierError(
          'infeasible',
          `Models of the ${spec.family} family cannot be recovered: Gated DeltaNets cannot be trained. Choose no recovery.`,
        )
      const budget = budgetFor(spec, amount)
      const { least, most } = method.range(spec, options)
      if (budget.sparsity > most + 1e-9)
        throw new EspalierError(
          'infeasible',
          `Sparsity ${Number(budget.sparsity.toFixed(4))} is out of reach: ${method.title} removes at most ${(100 * most).toFixed(1)} % of this model's block stack. Choose at most ${most.toFixed(3)}.`,
        )
      return { ...outlineOf(method, spec, budget, options), feasibleRange: { minimum: least, maximum: most } }
    } catch (thrown) {
      const { code, message, details } = toErrorMessage(thrown)
      const issues = details?.issues as { field: string; message: string }[] | undefined
      if (issues) for (const issue of issues) this.#refuse(`options.${issue.field}`, code, issue.message)
      else this.#refuse(code === 'infeasible' ? 'amount' : 'method', code, message)
      return undefined
    }
  }

  /** What the result would weigh; nothing where it cannot be reached. */
  async #formats(): Promise<FormatOutline[]> {
    const { method, amount, options } = this.#request
    if (isAblation(method) || isInspection(method) || this.#problems.some(({ code }) => code === 'infeasible' || code === 'usage'))
      return []
    const { spec, checkpoint } = this.#model
    const plans = expectedPlans(spec, { method, amount, options })
    return outlineLikely({ spec, checkpoint }, plans, Object.keys(formatTitles), previewedTypes)
  }

  async #data(field: string, { source, mix, sequenceLength }: DataRequest): Promise<void> {
    for (const part of mix ?? [{ source }]) await this.#text(field, part.source, sequenceLength)
  }

  async #text(field: string, source: string, sequenceLength: number): Promise<void> {
    const { localFolder } = this.#request
    const { spec, tokenizer } = this.#model
    if (source === selfWritten && field === 'recover.text') {
      if (!tokenizer) this.#refuse(field, 'invalid', withoutTokenizer('write text'))
      return
    }
    if (isDatasetId(source) && localFolder === undefined) {
      if (!tokenizer) this.#refuse(field, 'invalid', withoutTokenizer('read text'))
      this.#fetches.push({ field, ...fileOfDataset(source) })
      return
    }
    // One window is enough to know that the text is there, can be read, and is long enough.
    const read = () => readData({ spec }, tokenizer, { source, sequenceLength, windows: 1 }, 0, { localFolder })
    await this.#once(`${source} ${sequenceLength}`, field, read)
  }

  async #measure(field: string, measure: MeasureRequest): Promise<void> {
    if (measure.kind === 'perplexity') return this.#data(`${field}.data`, measure.data)
    if (measure.kind === 'inference') return
    const { tokenizer } = this.#model
    if (!tokenizer) return this.#refuse(field, 'invalid', withoutTokenizer(measure.kind === 'tasks' ? 'read questions' : 'answer prompts'))
    if (measure.kind === 'tasks') return this.#questions(field, measure)
    for (const prompt of measure.prompts) {
      const { length } = tokenizer.encode(prompt)
      if (length === 0 || length >= measure.maxLength)
        this.#refuse(
          `${field}.prompts`,
          'usage',
          `The prompt "${prompt.slice(0, 40)}" has ${length} tokens; prompt and answer together may have ${measure.maxLength}.`,
        )
    }
  }

  async #questions(field: string, { tasks, folder }: Extract<MeasureRequest, { kind: 'tasks' }>): Promise<void> {
    for (const task of tasks) {
      if (!isTaskId(task)) this.#refuse(field, 'usage', `There is no task "${task}". Known are: ${taskIds.join(', ')}.`)
      else if (folder === undefined) this.#fetches.push({ field, ...questionFile(task) })
      else await this.#once(`${folder} ${task}`, field, () => checkQuestions(task, folder))
    }
  }

  /** What an inspection of other runs needs: a text, or prompts that the model can read. */
  async #inspection(): Promise<void> {
    const { inspect } = this.#request
    if (inspect?.kind === 'divergence') return this.#data('inspect.data', inspect.data)
    if (inspect?.kind !== 'generation') return
    const { tokenizer, spec } = this.#model
    if (!tokenizer) return this.#refuse('inspect', 'invalid', withoutTokenizer('answer prompts'))
    for (const { text } of inspect.prompts) {
      const { length } = tokenizer.encode(text)
      if (length === 0 || length >= spec.contextLength)
        this.#refuse(
          'inspect.prompts',
          'usage',
          `The prompt "${text.slice(0, 40)}" has ${length} tokens; this model reads 1 to ${spec.contextLength - 1}.`,
        )
    }
  }

  /** Looks at what several requests share once for all of them. */
  async #once(what: string, field: string, look: () => Promise<unknown>): Promise<void> {
    const key = `${this.#model.path} ${this.#request.localFolder ?? ''} ${what}`
    const known =
      this.#answers.get(key) ??
      look().then(
        () => [],
        (thrown: unknown) => [toProblem('', thrown)],
      )
    this.#answers.set(key, known)
    this.#problems.push(...(await known).map((problem) => ({ ...problem, field })))
  }

  async #try(field: string, look: () => Promise<unknown>): Promise<void> {
    await look().catch((thrown: unknown) => {
      // A process with another runtime can say nothing of this one.
      if (thrown instanceof EspalierError && thrown.details?.anotherProcess) throw thrown
      this.#problems.push(toProblem(field, thrown))
    })
  }

  #refuse(field: string, code: Problem['code'], message: string): void {
    this.#problems.push({ field, code, message })
  }
}

function toProblem(field: string, thrown: unknown): Problem {
  const { code, message } = toErrorMessage(thrown)
  return { field, code, message }
}

function withoutTokenizer(what: string): string {
  return `This model has no tokenizer.json, so it cannot ${what}. Place its tokenizer.json in the folder.`
}

const nothing: Outline = { attentionRemoved: null, blocksRemoved: null, neuronsRemovedPerBlock: null, reached: null }

/** Tokens of the windows that a request asks for, each once. */
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

/** Weights as float32 and the streams of one window: what stays in memory when nothing has to be streamed. */
function memoryNeeded(spec: DecoderSpec, { calibration, memoryBytes }: RunRequest): number {
  const weights = 4 * stackParameters(spec) + Vocabulary.bytes(spec)
  const streams = 4 * 2 * spec.blocks.length * (calibration?.sequenceLength ?? 0) * spec.hidden
  return Math.min(weights + streams, memoryBytes ?? Number.POSITIVE_INFINITY)
}
