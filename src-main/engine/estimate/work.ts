import { createHash } from 'node:crypto'
import type { DataRequest } from '#contract/data/data-request.ts'
import { EspalierError } from '#contract/errors.ts'
import { promptsUpTo, shortestTurnSeconds, usualRounds, writtenTokens } from '#contract/exports/file-bench.ts'
import { paperBeams, withinContext } from '#contract/protocol.ts'
import { isPlain } from '#contract/runs/amount-text.ts'
import type { MeasureRequest, RunRequest } from '#contract/runs/run-request.ts'
import type { PhaseWork, Work } from '#contract/runs/time/estimate.ts'
import { denseMethod, isAblation, selfWritten } from '#contract/titles.ts'
import { activeParameters, stackParameters } from '#engine/architectures/parameters.ts'
import { takesHalves } from '#engine/architectures/spec.ts'
import { referenceInference } from '#engine/evaluation/inference.ts'
import { lengthsUpTo, needleTexts } from '#engine/evaluation/long-context.ts'
import { findMix, weighsErrors } from '#engine/export/gguf/mix.ts'
import { weighingPhase, weighingText } from '#engine/export/gguf/weighing-text.ts'
import { rowsPerCall as rowsOfPasses } from '#engine/model/forward.ts'
import { productsOnUnits } from '#engine/model/precision.ts'
import { Vocabulary } from '#engine/model/weights/vocabulary.ts'
import { findAblation } from '#engine/pruning/ablations/index.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { Method, MethodPhase } from '#engine/pruning/method.ts'
import { parseOptions } from '#engine/pruning/options.ts'
import { outlineOf } from '#engine/pruning/outline.ts'
import { readingDense } from '#engine/pruning/recovery/final-states.ts'
import { recovering } from '#engine/pruning/recovery/training.ts'
import { recoveryPhases } from '#engine/pruning/recovery/work.ts'
import { writingText, writtenTogether } from '#engine/pruning/recovery/written-text.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { repairPhase } from '#engine/pruning/repair/work.ts'
import { addPasses, stackPasses } from '#engine/pruning/search/passes.ts'
import { fewRows, type Products } from '#engine/tensor/products.ts'
import { leftBy, operationsOf } from './operations.ts'
import { countQuestions } from './question-counts.ts'
import { countWindows, type WorkModel } from './window-counts.ts'

const billion = 1e9
/** Seconds to encode a token, to read a gigabyte of weights, and to start a process. */
const [encoding, reading, starting] = [4e-6, 1, 1]

/** The work of a request, phase by phase, from the formulas of its method. Nothing is computed, but texts are counted. */
export async function workOf(model: WorkModel, request: RunRequest): Promise<Work> {
  return new RequestWork(model, request).describe()
}

function sharesOf(...shares: readonly (readonly [Products, number])[]): { faster?: PhaseWork['faster'] } {
  const faster = shares.flatMap(([products, share]) => (products === 'float32' ? [] : [{ products, share }]))
  return faster.length > 0 ? { faster } : {}
}

/** About how many tokens an answer with a hidden number has. */
const answerTokens = 7

const none = { attention: 0, mlp: 0, head: 0, double: 0, vectors: 0, calls: 0, decoded: 0, seconds: 0 }

class RequestWork {
  readonly #model: WorkModel
  readonly #request: RunRequest
  /** The share of the stack's work that the plan leaves. */
  #left = 1

  constructor(model: WorkModel, request: RunRequest) {
    this.#model = model
    this.#request = request
  }

  async describe(): Promise<Work> {
    const { spec } = this.#model
    const gigabytes = (4 * (stackParameters(spec) + Vocabulary.parameters(spec))) / billion
    const opening = { ...none, phase: 'starting', part: 'open', seconds: starting + reading * gigabytes }
    const pruning = isAblation(this.#request.method) ? await this.#study() : await this.#pruning()
    const measures = isAblation(this.#request.method) ? [] : await Promise.all(this.#request.measures.map((one) => this.#measure(one)))
    return { hidden: spec.hidden, phases: [opening, ...pruning, ...(await this.#weighing()), ...measures.flat()] }
  }

  #count(data: DataRequest) {
    return countWindows(this.#model, data, this.#request.localFolder)
  }

  async #pruning(): Promise<PhaseWork[]> {
    const { method: id, amount, options: given, calibration, repair, recover } = this.#request
    if (id === denseMethod || !calibration) return []
    const method: Method = findMethod(id)
    const options = parseOptions(method, given)
    if (!isPlain(amount)) throw new EspalierError('internal', 'Work is counted for a share or for blocks, not for a budget.')
    const budget = budgetFor(this.#model.spec, amount)
    const outline = outlineOf(method, this.#model.spec, budget, options)
    this.#left = leftBy(this.#model.spec, outline, budget.sparsity)
    const wanted = Math.min(method.windows(options), calibration.windows ?? Number.POSITIVE_INFINITY)
    const { windows, tokens } = await this.#count({ ...calibration, windows: wanted })
    const work = await method.work(this.#model.spec, budget, options, windows)
    const phases = work.map((phase) => this.#timed(phase, 'pruning', tokens))
    const repairs = repair ? await this.#repair(repair, outline) : []
    const recoveries = recover ? await this.#recovery(recover) : []
    return this.#shared([this.#readingOf(windows * tokens), ...phases, ...repairs, ...recoveries])
  }

  /** Names the work that leads to a plan by everything it depends on. Runs with other weights or measures find its steps done. */
  #shared(phases: readonly PhaseWork[]): PhaseWork[] {
    const { method, amount, options, calibration, seed, precision, backend, repair, recover } = this.#request
    const always = [calibration, seed, precision, backend]
    const asked = [method, amount, options]
    const dependsOn: Readonly<Record<string, unknown[]>> = {
      pruning: asked,
      repair: [...asked, repair],
      recovery: [...asked, repair, recover],
      [weighingPhase]: [...asked, repair, recover],
    }
    return phases.map((phase, index) => {
      const others = dependsOn[phase.part]
      if (!others) return phase
      const own = phase.shared === undefined ? [index, phase.phase, ...others] : [phase.shared]
      const hash = createHash('sha256').update(JSON.stringify([...always, ...own]))
      return { ...phase, shared: hash.digest('hex') }
    })
  }

  async #repair(
    { kind, calibration }: NonNullable<RunRequest['repair']>,
    { attentionRemoved, neuronsRemovedPerBlock, expertsRemoved = 0 }: ReturnType<typeof outlineOf>,
  ): Promise<PhaseWork[]> {
    const { spec } = this.#model
    const width = Math.max(1, ...spec.blocks.map((block) => block.width))
    const { windows, tokens } = await this.#count(calibration)
    const neurons = neuronsRemovedPerBlock === null ? this.#left : 1 - neuronsRemovedPerBlock / width
    const attention = attentionRemoved === null ? this.#left : 1 - attentionRemoved / spec.blocks.length
    const all = spec.blocks.reduce((sum, block) => sum + (block.experts ?? 0), 0)
    const left = { neurons, attention, experts: 1 - expertsRemoved / Math.max(1, all) }
    return [this.#readingOf(windows * tokens), this.#timed(repairPhase(spec, kind, windows, left), 'repair', tokens)]
  }

  /** Minutes are taken as given; tokens are timed. */
  async #recovery({ amount, text }: NonNullable<RunRequest['recover']>): Promise<PhaseWork[]> {
    if ('minutes' in amount) return [{ ...none, phase: recovering, part: 'recovery', seconds: 60 * amount.minutes }]
    const { windows, tokens } = await this.#count({ ...text, windows: Math.max(1, Math.round(amount.tokens / text.sequenceLength)) })
    const phases = recoveryPhases(this.#model.spec.blocks.length, windows, this.#left).map((phase) => ({
      ...this.#timed(phase, 'recovery', tokens),
      ...this.#trainingProducts(phase),
    }))
    return [this.#readingOf(windows * tokens), ...this.#writing(windows * tokens * writtenShare(text)), ...phases]
  }

  /** A training uses products of bfloat16 operands whatever the run's precision is. Only the dense model's states follow the precision. */
  #trainingProducts({ phase }: MethodPhase): Pick<PhaseWork, 'faster'> {
    const { precision = 'float32' } = this.#request
    return { faster: phase === readingDense && precision === 'float32' ? [] : [{ products: 'bfloat16', share: 1 }] }
  }

  /** The importances of a type that weighs errors. Runs of one plan share them, whatever their type. */
  async #weighing(): Promise<PhaseWork[]> {
    const { weights, calibration } = this.#request
    if (weights === undefined || !weighsErrors(findMix(weights))) return []
    const { windows, tokens } = await this.#count(weighingText(calibration, this.#model.spec.contextLength))
    const phase = { phase: 'Weighing columns', passes: { ...this.#wholePasses(windows), head: 0 } }
    return this.#shared([this.#timed(phase, weighingPhase, tokens)])
  }

  #writing(tokens: number): PhaseWork[] {
    const phase = { ...none, phase: writingText, part: 'recovery' }
    return tokens > 0 ? [this.#decoding(phase, tokens / writtenTogether, writtenTogether, 1)] : []
  }

  /** Each trial of a study is 2SSP and a perplexity. Trials on the same windows share the first stage. */
  async #study(): Promise<PhaseWork[]> {
    const { method, options: given, calibration, measures } = this.#request
    const judged = measures.find(({ kind }) => kind === 'perplexity')
    if (!calibration || judged?.kind !== 'perplexity') return []
    const ablation = findAblation(method)
    const trials = ablation.trials(this.#model.spec, parseOptions(ablation, given))
    const twoStage: Method = findMethod('2ssp')
    const evaluation = await this.#count(judged.data)
    const counted = await Promise.all(
      trials.map(async ({ sparsity, options }) => {
        const own = parseOptions(twoStage, options)
        const wanted = Math.min(twoStage.windows(own), calibration.windows ?? Number.POSITIVE_INFINITY)
        const { windows, tokens } = await this.#count({ ...calibration, windows: wanted })
        const phases = await twoStage.work(this.#model.spec, budgetFor(this.#model.spec, { sparsity }), own, windows)
        const judging = { phase: ablation.title, passes: this.#wholePasses(evaluation.windows, 1 - sparsity) }
        return [
          ...phases.map((phase) => this.#timed({ ...phase, phase: ablation.title }, 'study', tokens)),
          this.#timed(judging, 'study', evaluation.tokens),
        ]
      }),
    )
    const { faster } = this.#productsOf(undefined)
    return [{ ...sumOf(ablation.title, 'study', withoutRepeats(counted.flat())), ...(faster ? { faster } : {}) }]
  }

  #timed(
    { phase, passes, double, vectors = 0, choosing, shared, rowsPerCall = rowsOfPasses }: MethodPhase,
    part: string,
    tokens: number,
  ): PhaseWork {
    const operations = operationsOf(this.#model.spec, tokens)
    const together = Math.max(1, Math.floor(rowsPerCall / tokens))
    const { times, faster } = this.#productsOf(choosing)
    return {
      ...none,
      phase,
      part,
      attention: (times * passes.attention * operations.attention) / billion,
      mlp: (times * passes.mlp * operations.mlp) / billion,
      head: (times * passes.head * operations.head) / billion,
      double: (double?.(tokens) ?? 0) / billion,
      vectors: vectors / billion,
      calls: (times * (passes.attention + passes.mlp + passes.head)) / together,
      ...(faster ? { faster } : {}),
      ...(shared === undefined ? {} : { shared }),
    }
  }

  /** How many times a phase's operations are done, and which shares of them with other products than float32's. */
  #productsOf(choosing: MethodPhase['choosing']): { times: number; faster?: PhaseWork['faster'] } {
    const { precision = 'float32' } = this.#request
    const wanted = precision === 'auto' ? 'mixed' : precision
    // If a machine has no units for them, its rates say that other products are as fast as float32's.
    const { passes, ranking, rescoring, deciding } = productsOnUnits(takesHalves(this.#model.spec) ? wanted : 'float32')
    if (choosing === undefined) return { times: 1, ...sharesOf([passes, 1]) }
    if (choosing === 'exactly' || ranking === deciding) return { times: 1, ...sharesOf([deciding, 1]) }
    const times = 1 + choosing.again
    return { times, ...sharesOf([ranking, 1 / times], [rescoring, choosing.again / times]) }
  }

  #readingOf(tokens: number): PhaseWork {
    return { ...none, phase: 'Reading text', part: 'reading text', seconds: tokens * encoding }
  }

  #wholePasses(windows: number, left = this.#left) {
    return stackPasses(this.#model.spec.blocks.length * left, windows, windows)
  }

  async #measure(measure: MeasureRequest): Promise<PhaseWork[]> {
    if (measure.kind === 'perplexity') {
      const { windows, tokens } = await this.#count(measure.data)
      const phase = { phase: `Perplexity on ${measure.name}`, passes: this.#wholePasses(windows) }
      return [this.#readingOf(windows * tokens), this.#timed(phase, 'perplexity', tokens)]
    }
    if (measure.kind === 'inference') return [this.#request.weights ? this.#fileTimes(measure) : this.#inference(measure)]
    if (measure.kind === 'repetition') {
      const { windows, tokens } = await this.#count(measure.data)
      const phase = this.#timed({ phase: 'Continuing texts', passes: this.#wholePasses(windows) }, 'repetition', tokens)
      return [this.#decoding(phase, (windows * measure.tokens) / fewRows, fewRows)]
    }
    if (measure.kind === 'long context') return this.#longContext(measure)
    if (measure.kind === 'answers') {
      const phase = { phase: 'Answering prompts', passes: { attention: 0, mlp: 0, head: 0 } }
      return [this.#decoding(this.#timed(phase, 'answers', 1), measure.prompts.length * measure.maxLength, paperBeams.beams)]
    }
    return (await Promise.all(measure.tasks.map((task) => this.#task(task, measure)))).flat()
  }

  async #longContext({ data, name }: Extract<MeasureRequest, { kind: 'long context' }>): Promise<PhaseWork[]> {
    const { windows, tokens } = await this.#count(withinContext(data, this.#model.spec.contextLength))
    const phase = { phase: `Perplexity by position on ${name}`, passes: this.#wholePasses(windows) }
    const hidden = lengthsUpTo(tokens).map((length) => {
      const reading = { phase: `Numbers hidden in ${length} tokens`, passes: { ...this.#wholePasses(needleTexts), head: 0 } }
      return this.#decoding(this.#timed(reading, 'long context', length), needleTexts * answerTokens, 1)
    })
    return [this.#readingOf(windows * tokens), this.#timed(phase, 'perplexity', tokens), ...hidden]
  }

  /** The dense and the pruned model take equally many turns. */
  #inference({ sequenceLength, repeats }: Extract<MeasureRequest, { kind: 'inference' }>): PhaseWork {
    const rounds = Math.min(5, repeats)
    const passes = Math.min(repeats, referenceInference.warmups) + repeats + rounds
    const models = this.#left < 1 ? 2 : 1
    const all = addPasses(this.#wholePasses(passes), ...(models === 2 ? [this.#wholePasses(passes, 1)] : []))
    const timed = this.#timed({ phase: 'Inference time', passes: all, rowsPerCall: 1 }, 'inference', sequenceLength)
    return this.#decoding(timed, models * rounds * Math.min(referenceInference.decoded, sequenceLength - 1), 1)
  }

  /** Two files in llama.cpp, with one prompt as long as the context allows. */
  #fileTimes({ sequenceLength, repeats }: Extract<MeasureRequest, { kind: 'inference' }>): PhaseWork {
    const rounds = Math.min(repeats, usualRounds)
    const longest = promptsUpTo(sequenceLength).findLast((tokens) => tokens <= this.#model.spec.contextLength) ?? sequenceLength
    const passes = { ...addPasses(this.#wholePasses(rounds), this.#wholePasses(rounds, 1)), head: 0 }
    const timed = this.#timed({ phase: 'Inference time', passes, rowsPerCall: 1 }, 'inference', longest)
    return { ...this.#decoding(timed, 2 * rounds * writtenTokens, 1), seconds: 2 * rounds * shortestTurnSeconds }
  }

  /** Tokens generated one by one, for a number of sequences side by side. */
  #decoding(phase: PhaseWork, tokens: number, sequences: number, left = this.#left): PhaseWork {
    const { spec } = this.#model
    const gigabytes = (4 * (left * activeParameters(spec).active + spec.vocabulary * spec.hidden)) / billion
    return { ...phase, decoded: tokens * gigabytes * (1 + (sequences - 1) / 4) }
  }

  async #task(task: string, measure: Extract<MeasureRequest, { kind: 'tasks' }>): Promise<PhaseWork[]> {
    const found = await countQuestions(task, measure)
    if (!found) return []
    const { title, questions, tokens, written } = found
    const phase = this.#timed({ phase: title, passes: this.#wholePasses(questions) }, 'tasks', tokens)
    return [written > 0 ? this.#decoding(phase, questions * written, 1) : phase]
  }
}

/** The share of a text that the dense model writes. */
function writtenShare({ source, mix = [{ source, share: 1 }] }: DataRequest): number {
  const sum = (parts: typeof mix) => parts.reduce((total, { share }) => total + share, 0)
  return sum(mix.filter((part) => part.source === selfWritten)) / sum(mix)
}

/** Keeps only the first of phases that share the same work. */
function withoutRepeats(phases: readonly PhaseWork[]): PhaseWork[] {
  return phases.filter(({ shared }, at) => shared === undefined || phases.findIndex((other) => other.shared === shared) === at)
}

function sumOf(phase: string, part: string, phases: readonly PhaseWork[]): PhaseWork {
  const sum = { ...none, phase, part }
  for (const key of Object.keys(none) as (keyof typeof none)[]) for (const own of phases) sum[key] += own[key]
  return sum
}
