import { createHash } from 'node:crypto'
import type { DataRequest } from '#contract/data/data-request.ts'
import { EspalierError } from '#contract/errors.ts'
import { promptsUpTo, rivalType, shortestTurnSeconds, speedPrompt, usualRounds, writtenTokens } from '#contract/exports/file-bench.ts'
import { paperBeams, withinContext } from '#contract/protocol.ts'
import { heldOutKinds } from '#contract/pruning/recovery.ts'
import { isPlain, mixedBudget } from '#contract/runs/amount-text.ts'
import type { MeasureRequest, PlainAmount, RunRequest } from '#contract/runs/run-request.ts'
import { beginLabel } from '#contract/runs/step-names.ts'
import type { PhaseWork, Work } from '#contract/runs/time/estimate.ts'
import {
  openPart,
  readingModel,
  type TimingStep,
  timingFiles,
  timingPart,
  writingDense,
  writingFile,
  writingTimed,
} from '#contract/runs/time/progress.ts'
import { denseMethod, isAblation, mixedBytes, selfWritten, type TaskId, type WrittenTaskId } from '#contract/titles.ts'
import { presentParameters, stackParameters } from '#engine/architectures/count-parameters.ts'
import { type KeptAnswers, oncePerModel } from '#engine/checkpoint/once-per-model.ts'
import { beginPhase, beginTokenOf, beginWork } from '#engine/evaluation/begin-token.ts'
import { referenceInference } from '#engine/evaluation/inference.ts'
import { lengthsUpTo, needleTexts } from '#engine/evaluation/long-context.ts'
import { isTaskId, tasks } from '#engine/evaluation/tasks/index.ts'
import { readQuestions } from '#engine/evaluation/tasks/questions.ts'
import { isWrittenTaskId, writtenTasks } from '#engine/evaluation/written/index.ts'
import { readWritten } from '#engine/evaluation/written/questions.ts'
import { expectedPlans } from '#engine/export/check-save.ts'
import { weighingPhase, weighingText } from '#engine/export/gguf/importances.ts'
import { findMix, weighsErrors } from '#engine/export/gguf/mix.ts'
import { measuringSensitivity, mixedWindows, pricingTypes } from '#engine/export/mixed-types/mixed-types.ts'
import { divideMemory } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { findAblation } from '#engine/pruning/ablations/index.ts'
import { type Budget, budgetFor } from '#engine/pruning/budget.ts'
import { addPasses, type Method, type MethodPhase, parseOptions } from '#engine/pruning/method.ts'
import { rowsOf } from '#engine/pruning/methods/vocabulary.ts'
import { outlineOf } from '#engine/pruning/outline.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { ownPartOf } from '#engine/pruning/recovery/held-out.ts'
import { recoveryPhases } from '#engine/pruning/recovery/recover.ts'
import { roomFor } from '#engine/pruning/recovery/recovery-budget.ts'
import { recovering } from '#engine/pruning/recovery/training.ts'
import { writingText, writtenTogether } from '#engine/pruning/recovery/written-text.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { repairPhase } from '#engine/pruning/repair/repair-memory.ts'
import { fewRows } from '#engine/tensor/products.ts'
import { leftBy } from './operations.ts'
import { billion, noWork, PhaseCounts, trainingProducts, type WorkModel } from './phase-counts.ts'
import { fileGigabytes, fileWork, pricingWork } from './storing.ts'

/** About how many tokens the answer to a long-context question has. It states a number hidden in the text. */
const answerTokens = 7

/** The phases of one measure, with their work. */
async function measureWork(counts: PhaseCounts, measure: MeasureRequest): Promise<PhaseWork[]> {
  if (measure.kind === 'perplexity') {
    const { windows, tokens } = await counts.count(measure.data)
    const phase = { phase: `Perplexity on ${measure.name}`, passes: counts.wholePasses(windows) }
    return [counts.readingOf(windows * tokens), counts.timed(phase, 'perplexity', tokens)]
  }
  if (measure.kind === 'inference') return counts.request.weights ? fileTimesWork(counts, measure) : [inferenceWork(counts, measure)]
  if (measure.kind === 'repetition') {
    const { windows, tokens } = await counts.count(measure.data)
    const phase = counts.timed({ phase: 'Continuing texts', passes: counts.wholePasses(windows) }, 'repetition', tokens)
    return [counts.decoding(phase, (windows * measure.tokens) / fewRows, fewRows)]
  }
  if (measure.kind === 'long context') return longContextWork(counts, measure)
  if (measure.kind === 'answers') {
    const phase = { phase: 'Answering prompts', passes: { attention: 0, mlp: 0, head: 0 } }
    return [counts.decoding(counts.timed(phase, 'answers', 1), measure.prompts.length * measure.maxLength, paperBeams.beams)]
  }
  return (await Promise.all(measure.tasks.map((task) => taskWork(counts, task, measure)))).flat()
}

async function longContextWork(
  counts: PhaseCounts,
  { data, name }: Extract<MeasureRequest, { kind: 'long context' }>,
): Promise<PhaseWork[]> {
  const { windows, tokens } = await counts.count(withinContext(data, counts.model.spec.contextLength))
  const phase = { phase: `Perplexity by position on ${name}`, passes: counts.wholePasses(windows) }
  const hidden = lengthsUpTo(tokens).map((length) => {
    const reading = { phase: `Numbers hidden in ${length} tokens`, passes: { ...counts.wholePasses(needleTexts), head: 0 } }
    return counts.decoding(counts.timed(reading, 'long context', length), needleTexts * answerTokens, 1)
  })
  return [counts.readingOf(windows * tokens), counts.timed(phase, 'perplexity', tokens), ...hidden]
}

/** The dense and the pruned model are timed in turns, the same number of turns each. */
function inferenceWork(counts: PhaseCounts, { sequenceLength, repeats }: Extract<MeasureRequest, { kind: 'inference' }>): PhaseWork {
  const rounds = Math.min(5, repeats)
  const passes = Math.min(repeats, referenceInference.warmups) + repeats + rounds
  const models = counts.left < 1 ? 2 : 1
  const all = addPasses(counts.wholePasses(passes), ...(models === 2 ? [counts.wholePasses(passes, 1)] : []))
  const timed = counts.timed({ phase: 'Inference time', passes: all, rowsPerCall: 1 }, 'inference', sequenceLength)
  return counts.decoding(timed, models * rounds * Math.min(referenceInference.decoded, sequenceLength - 1), 1)
}

/** A GGUF file in a weight type, with `left` of the block stack. */
interface TimedFile {
  readonly type: string
  readonly left: number
}

/** Timing files in llama.cpp: in each round, each of them reads a prompt and writes some tokens. */
function turnsWork(
  counts: PhaseCounts,
  { phase, part, prompt, rounds }: { phase: string; part: string; prompt: number; rounds: number },
  files: readonly TimedFile[],
): PhaseWork {
  const passes = { ...addPasses(...files.map(({ left }) => counts.wholePasses(rounds, left))), head: 0 }
  const gigabytes = files.reduce((sum, { type, left }) => sum + fileGigabytes(counts.model, type, left), 0)
  return {
    ...counts.timed({ phase, passes, rowsPerCall: 1 }, part, prompt),
    decoded: rounds * writtenTokens * gigabytes,
    seconds: rounds * files.length * shortestTurnSeconds,
  }
}

/**
 * Writes the unpruned file, unless the run's file is the same, and times both in llama.cpp, with the longest prompt that fits the context.
 */
function fileTimesWork(counts: PhaseCounts, { sequenceLength, repeats }: Extract<MeasureRequest, { kind: 'inference' }>): PhaseWork[] {
  const rounds = Math.min(repeats, usualRounds)
  const longest = promptsUpTo(sequenceLength).findLast((tokens) => tokens <= counts.model.spec.contextLength) ?? sequenceLength
  const { method, weights = rivalType } = counts.request
  const isDense = method === denseMethod && weights === rivalType
  const writing = { ...noWork, ...fileWork(counts.model.spec, rivalType, 1), phase: writingDense, part: 'writing the dense file' }
  const rival = { type: rivalType, left: 1 }
  const files = isDense ? [rival] : [{ type: weights, left: counts.left }, rival]
  return [...(isDense ? [] : [writing]), turnsWork(counts, { phase: 'Inference time', part: 'inference', prompt: longest, rounds }, files)]
}

async function taskWork(counts: PhaseCounts, task: string, measure: Extract<MeasureRequest, { kind: 'tasks' }>): Promise<PhaseWork[]> {
  const found = await countQuestions(task, measure)
  if (!found) return []
  const { title, questions, tokens, written } = found
  const phase = counts.timed({ phase: title, passes: counts.wholePasses(questions) }, 'tasks', tokens)
  return [written > 0 ? counts.decoding(phase, questions * written, 1) : phase]
}

/** Published sizes of tasks, and about how many tokens all answers to one question have together. */
const publishedTasks: Readonly<Record<TaskId, { questions: number; tokens: number }>> = {
  arc_challenge: { questions: 1172, tokens: 150 },
  arc_easy: { questions: 2376, tokens: 140 },
  hellaswag: { questions: 10_042, tokens: 380 },
  mmlu: { questions: 14_042, tokens: 150 },
  piqa: { questions: 1838, tokens: 80 },
  winogrande: { questions: 1267, tokens: 60 },
}

/** About how many questions can be checked, and how many tokens a prompt has with its examples. */
const publishedWritten: Readonly<Record<WrittenTaskId, { questions: number; tokens: number }>> = {
  gsm8k: { questions: 1319, tokens: 900 },
  ifeval: { questions: 400, tokens: 60 },
}

interface QuestionCount {
  readonly title: string
  readonly questions: number
  /** Tokens read for a question. */
  readonly tokens: number
  /** The maximum number of tokens generated for it. A pruned model often continues to this limit. */
  readonly written: number
}

/** The number of questions in a task, and their size; undefined for an unknown task. */
async function countQuestions(
  task: string,
  { folder, limit }: Extract<MeasureRequest, { kind: 'tasks' }>,
): Promise<QuestionCount | undefined> {
  const published = (count: number) => Math.min(count, limit ?? count)
  if (isTaskId(task)) {
    const { questions, tokens } = publishedTasks[task]
    const count = folder === undefined ? published(questions) : (await readQuestions(task, { folder }, limit)).length
    return { title: tasks[task].title, questions: count, tokens, written: 0 }
  }
  if (!isWrittenTaskId(task)) return undefined
  const { questions, tokens } = publishedWritten[task]
  const count = folder === undefined ? published(questions) : (await readWritten(task, { folder }, limit)).questions.length
  return { title: writtenTasks[task].title, questions: count, tokens, written: writtenTasks[task].tokens }
}

/** Seconds to read a gigabyte of weights, and seconds to start a process. */
const [reading, starting] = [1, 1]

/**
 * The work of a request, phase by phase. It follows from the formulas of its method: no model runs, but texts are encoded to count their
 * windows.
 */
export async function workOf(model: WorkModel, request: RunRequest, signal?: AbortSignal): Promise<Work> {
  const spec = request.vocabulary ? { ...model.spec, vocabulary: rowsOf(model.spec, request.vocabulary) } : model.spec
  return new RequestWork(new PhaseCounts({ ...model, spec }, request, signal)).describe()
}

/** Phases of methods. A search is counted by drawing its candidates, which requests that differ only in repair or type share. */
const methodPhases: KeptAnswers<MethodPhase[]> = new WeakMap()

/** What mixed types are assumed to remove, if anything. How much pays is known once the run has priced it, and changes the time little. */
const usualRemoval = { sparsity: 0.25 }
/** With this many bits per parameter or more, no part cost less than its bits in any language model that was measured (docs/results.md). */
const enoughBits = 4.7

/** The part of a run that chooses mixed types. */
const mixing = 'choosing types'

class RequestWork {
  readonly #counts: PhaseCounts

  constructor(counts: PhaseCounts) {
    this.#counts = counts
  }

  async describe(): Promise<Work> {
    const { spec } = this.#counts.model
    const opening = { ...noWork, phase: readingModel, part: openPart, seconds: starting + this.#readingSeconds(1) }
    const pruning = isAblation(this.#counts.request.method) ? await this.#study() : await this.#pruning()
    const measures = isAblation(this.#counts.request.method)
      ? []
      : await Promise.all(this.#counts.request.measures.map((one) => measureWork(this.#counts, one)))
    const before = [opening, ...this.#beginning(), ...pruning, ...(await this.#weighing()), ...(await this.#mixing()), ...this.#storing()]
    return { hidden: spec.hidden, phases: [...before, ...this.#withFile(measures.flat())] }
  }

  /** The first measure of a file also reads it. */
  #withFile(measures: PhaseWork[]): PhaseWork[] {
    const { request, left } = this.#counts
    const first = measures.findIndex(({ part }) => part !== 'reading text')
    if (request.weights === undefined || first < 0) return measures
    return measures.map((one, index) => (index === first ? { ...one, seconds: one.seconds + this.#readingSeconds(left) } : one))
  }

  /** Seconds to read embedding, head and this share of the block stack. */
  #readingSeconds(left: number): number {
    const { spec } = this.#counts.model
    return (reading * 4 * (left * stackParameters(spec) + Vocabulary.parameters(spec))) / billion
  }

  /** Writing the file of the weight type. */
  #storing(): PhaseWork[] {
    const { request, model, left } = this.#counts
    if (request.weights === undefined) return []
    return [{ ...noWork, ...fileWork(model.spec, request.weights, left), phase: writingFile(request.weights), part: 'quantising' }]
  }

  /** What `auto` measures, once for all runs of a model. Always in float32. */
  #beginning(): PhaseWork[] {
    const { model, request } = this.#counts
    if (request.beginToken !== 'auto' || !beginTokenOf(model)) return []
    const { windows, tokens } = beginWork(model.spec.contextLength)
    const { faster: _, ...work } = this.#counts.timed({ phase: beginPhase, passes: this.#counts.wholePasses(windows) }, beginLabel, tokens)
    return [{ ...work, shared: beginLabel }]
  }

  /** Whether a run that divides bytes between parts and bits is expected to remove parts. Any other run does. */
  #removesParts(): boolean {
    const { spec } = this.#counts.model
    const { amount } = this.#counts.request
    if (!('bytes' in amount) || !mixedBudget(amount)) return true
    return 8 * amount.bytes < enoughBits * (stackParameters(spec) + Vocabulary.parameters(spec))
  }

  async #pruning(): Promise<PhaseWork[]> {
    const { method: id, options: given, calibration, vocabulary: kept, repair, recover } = this.#counts.request
    const { spec } = this.#counts.model
    if (id === denseMethod || !calibration) return []
    const method: Method = findMethod(id)
    const options = parseOptions(method, given)
    const budget = budgetFor(spec, this.#expected(method.range(spec, options).most))
    const outline = outlineOf(method, spec, budget, options)
    this.#counts.left = leftBy(spec, outline, budget.sparsity)
    const ranking = kept ? [await this.#counts.countingOf(calibration)] : []
    const readsAll = calibration.windows === undefined && method.readsAll?.(options) === true
    const wanted = Math.min(method.windows(options), calibration.windows ?? Number.POSITIVE_INFINITY)
    const { windows, tokens } = readsAll
      ? { windows: 0, tokens: calibration.sequenceLength }
      : await this.#counts.count({ ...calibration, windows: wanted })
    const reading = readsAll ? await this.#counts.countingOf(calibration) : this.#counts.readingOf(windows * tokens)
    const work = await this.#phasesOf(method, budget, options, windows)
    const phases = work.map((phase) => this.#counts.timed(phase, 'pruning', tokens))
    const [trying, checking] = this.#timing()
    const repairs = repair ? await this.#repair(repair, outline) : []
    const recoveries = recover ? await this.#recovery(recover) : []
    return this.#shared([...ranking, reading, ...trying, ...phases, ...checking, ...repairs, ...recoveries])
  }

  #phasesOf(method: Method, budget: Budget, options: Record<string, unknown>, windows: number): Promise<MethodPhase[]> {
    const { spec, checkpoint } = this.#counts.model
    const question = [method.id, spec.vocabulary, budget, options, windows]
    return oncePerModel(methodPhases, checkpoint, question, async () => method.work(spec, budget, options, windows))
  }

  /** What is assumed to be removed, where the run finds it out. A speed is asked for between that of the dense model and the fastest. */
  #expected(most: number): PlainAmount {
    const { amount } = this.#counts.request
    if (mixedBudget(amount)) return this.#removesParts() ? usualRemoval : { sparsity: 0 }
    if (isPlain(amount)) return amount
    if ('bytes' in amount) throw new EspalierError('internal', 'Work is counted for a share or for blocks, not for a size.')
    return { sparsity: most / 2 }
  }

  /** Meeting a speed: four files predict the speed of any plan, before the method runs. Then the result is timed beside the dense file. */
  #timing(): [trying: PhaseWork[], checking: PhaseWork[]] {
    const { model, request, left } = this.#counts
    const { amount, weights: type = rivalType } = request
    if (isPlain(amount) || 'bytes' in amount) return [[], []]
    const prompt = 'prompt' in amount ? amount.prompt : speedPrompt
    const attention = model.spec.blocks.reduce((sum, _, index) => sum + presentParameters(model.spec, index).attention, 0)
    const fewer = 1 - attention / stackParameters(model.spec)
    const narrow = 1 - (7 / 8) * fewer
    const time = (step: TimingStep, lefts: readonly number[]): PhaseWork[] => {
      const writing = lefts.map((share) => fileWork(model.spec, type, share))
      return [
        {
          ...noWork,
          phase: writingTimed[step],
          part: timingPart,
          stored: writing.reduce((sum, { stored }) => sum + stored, 0),
          seconds: writing.reduce((sum, { seconds }) => sum + seconds, 0),
        },
        turnsWork(
          this.#counts,
          { phase: timingFiles[step], part: timingPart, prompt, rounds: usualRounds },
          lefts.map((share) => ({ type, left: share })),
        ),
      ]
    }
    return [time('samples', [1, narrow, fewer, narrow + fewer - 1]), time('result', [1, left])]
  }

  /**
   * Names the work that leads to a plan by a hash of everything it depends on. Runs that differ only in weight type or measures share this
   * work, because the later one finds its steps done.
   */
  #shared(phases: readonly PhaseWork[], of = this.#counts.request): PhaseWork[] {
    const { method, amount, options, calibration, vocabulary: kept, seed, precision, backend, repair, recover } = of
    const always = [calibration, kept, seed, precision, backend]
    const choice = method === denseMethod ? [method] : [method, amount, options]
    const dependsOn: Readonly<Record<string, unknown[]>> = {
      pruning: choice,
      repair: [...choice, repair],
      recovery: [...choice, repair, recover],
      [weighingPhase]: [...choice, repair, recover],
      [mixing]: [...choice, repair, recover],
    }
    return phases.map((phase, index) => {
      const inputs = dependsOn[phase.part]
      if (!inputs) return phase
      const identity = phase.shared === undefined ? [index, phase.phase, ...inputs] : [phase.shared]
      const hash = createHash('sha256').update(JSON.stringify([...always, ...identity]))
      return { ...phase, shared: hash.digest('hex') }
    })
  }

  async #repair(
    { kind, calibration }: NonNullable<RunRequest['repair']>,
    { attentionRemoved, neuronsRemovedPerBlock, expertsRemoved = 0 }: ReturnType<typeof outlineOf>,
  ): Promise<PhaseWork[]> {
    const { spec } = this.#counts.model
    const width = Math.max(1, ...spec.blocks.map((block) => block.width))
    const { windows, tokens } = await this.#counts.count(calibration)
    const neurons = neuronsRemovedPerBlock === null ? this.#counts.left : 1 - neuronsRemovedPerBlock / width
    const attention = attentionRemoved === null ? this.#counts.left : 1 - attentionRemoved / spec.blocks.length
    const all = spec.blocks.reduce((sum, block) => sum + (block.experts ?? 0), 0)
    const left = { neurons, attention, experts: 1 - expertsRemoved / Math.max(1, all) }
    return [this.#counts.readingOf(windows * tokens), this.#counts.timed(repairPhase(spec, kind, windows, left), 'repair', tokens)]
  }

  /** A recovery given in minutes takes that long; one given in tokens is estimated. */
  async #recovery({ amount, text, trains }: NonNullable<RunRequest['recover']>): Promise<PhaseWork[]> {
    if ('minutes' in amount) return [{ ...noWork, phase: recovering, part: 'recovery', seconds: 60 * amount.minutes }]
    const { windows, tokens } = await this.#counts.count({ ...text, windows: Math.max(1, Math.round(amount.tokens / text.sequenceLength)) })
    const kinds = heldOutKinds.length + (ownPartOf(text) ? 1 : 0)
    const { spec } = this.#counts.model
    const { memoryBytes } = this.#counts.request
    const [plan = densePlan(spec)] = expectedPlans(spec, this.#counts.request)
    const room = roomFor(divideMemory(spec, memoryBytes).left, spec, plan, text.sequenceLength, trains)
    const { phases, making } = recoveryPhases(spec.blocks.length, windows, kinds, this.#counts.left, room)
    const [dense, training] = phases.map((phase) => this.#counts.timed(phase, 'recovery', tokens)) as [PhaseWork, PhaseWork]
    return [
      this.#counts.readingOf(windows * tokens),
      ...this.#writing(windows * tokens * writtenShare(text)),
      { ...dense, faster: this.#counts.rankingProducts() },
      { ...training, faster: trainingProducts, decoded: making },
    ]
  }

  /** Measuring importances, for weight types that weight errors by them. Runs of one plan share the importances, whatever their type. */
  async #weighing(): Promise<PhaseWork[]> {
    const { weights, calibration } = this.#counts.request
    if (weights === undefined || !weighsErrors(findMix(weights))) return []
    const { windows, tokens } = await this.#counts.count(weighingText(calibration, this.#counts.model.spec.contextLength))
    return this.#onPlans((left) => {
      const phase = { phase: 'Weighing columns', passes: { ...this.#counts.wholePasses(windows, left), head: 0 } }
      return [{ ...this.#counts.timed(phase, weighingPhase, tokens), faster: this.#counts.rankingProducts() }]
    })
  }

  /**
   * The work on the run's plan. Bytes that are divided between parts and bits are priced on the dense model first, as by runs of its types,
   * and then on what is left if parts are removed.
   */
  #onPlans(work: (left: number) => PhaseWork[]): PhaseWork[] {
    const { request, left } = this.#counts
    const dense = () => this.#shared(work(1), { ...request, method: denseMethod, repair: undefined, recover: undefined })
    if (!mixedBudget(request.amount)) return this.#shared(work(left))
    return [...dense(), ...(this.#removesParts() ? this.#shared(work(left)) : [])]
  }

  /** Choosing mixed types: a pass forward and backward, then rounding a sample of each matrix to every type. */
  async #mixing(): Promise<PhaseWork[]> {
    const { weights = '', calibration } = this.#counts.request
    if (mixedBytes(weights) === undefined) return []
    const { spec } = this.#counts.model
    const { windows, tokens } = await this.#counts.count(weighingText(calibration, spec.contextLength))
    const used = Math.min(windows, mixedWindows)
    return this.#onPlans((left) => {
      const { attention, mlp, head } = this.#counts.wholePasses(used, left)
      const passes = { attention: 2 * attention, mlp: 2 * mlp, head: 3 * head }
      const measuring = this.#counts.timed({ phase: measuringSensitivity, passes, rowsPerCall: 1 }, mixing, tokens)
      const pricing = { ...noWork, ...pricingWork(spec), phase: pricingTypes, part: mixing }
      return [{ ...measuring, faster: trainingProducts }, pricing]
    })
  }

  #writing(tokens: number): PhaseWork[] {
    const phase = { ...noWork, phase: writingText, part: 'recovery' }
    return tokens > 0 ? [this.#counts.decoding(phase, tokens / writtenTogether, writtenTogether, 1)] : []
  }

  /** Each trial of a study runs 2SSP and measures a perplexity. Trials on the same windows share the first stage. */
  async #study(): Promise<PhaseWork[]> {
    const { method, options: given, calibration, measures } = this.#counts.request
    const judged = measures.find(({ kind }) => kind === 'perplexity')
    if (!calibration || judged?.kind !== 'perplexity') return []
    const ablation = findAblation(method)
    const trials = ablation.trials(this.#counts.model.spec, parseOptions(ablation, given))
    const twoStage: Method = findMethod('2ssp')
    const evaluation = await this.#counts.count(judged.data)
    const counted = await Promise.all(
      trials.map(async ({ sparsity, options }) => {
        const own = parseOptions(twoStage, options)
        const wanted = Math.min(twoStage.windows(own), calibration.windows ?? Number.POSITIVE_INFINITY)
        const { windows, tokens } = await this.#counts.count({ ...calibration, windows: wanted })
        const phases = await twoStage.work(this.#counts.model.spec, budgetFor(this.#counts.model.spec, { sparsity }), own, windows)
        const judging = { phase: ablation.title, passes: this.#counts.wholePasses(evaluation.windows, 1 - sparsity) }
        return [
          ...phases.map((phase) => this.#counts.timed({ ...phase, phase: ablation.title }, 'study', tokens)),
          this.#counts.timed(judging, 'study', evaluation.tokens),
        ]
      }),
    )
    const { faster } = this.#counts.productsOf(undefined)
    return [{ ...sumOf(ablation.title, 'study', withoutRepeats(counted.flat())), ...(faster ? { faster } : {}) }]
  }
}

/** The share of the training text that the dense model writes. */
function writtenShare({ source, mix = [{ source, share: 1 }] }: DataRequest): number {
  const sum = (parts: typeof mix) => parts.reduce((total, { share }) => total + share, 0)
  return sum(mix.filter((part) => part.source === selfWritten)) / sum(mix)
}

/** Keeps only the first of the phases that share work. */
function withoutRepeats(phases: readonly PhaseWork[]): PhaseWork[] {
  return phases.filter(({ shared }, at) => shared === undefined || phases.findIndex((other) => other.shared === shared) === at)
}

function sumOf(phase: string, part: string, phases: readonly PhaseWork[]): PhaseWork {
  const sum = { ...noWork, phase, part }
  for (const key of Object.keys(noWork) as (keyof typeof noWork)[]) for (const one of phases) sum[key] += one[key]
  return sum
}
