import { stat } from 'node:fs/promises'
import { isPerToken } from '#contract/comparison/comparable.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { ScoredTask } from '#contract/data/questions.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { TokenRanking } from '#contract/pruning/token-ranking.ts'
import type { TakenMeasure } from '#contract/runs/measures.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { denseMethod } from '#contract/titles.ts'
import { version } from '#contract/version.ts'
import { upperFirst } from '#contract/words.ts'
import { activeParameters } from '#engine/architectures/count-parameters.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { unpackedNotes } from '#engine/checkpoint/checkpoint.ts'
import { hashOf, type ReadData } from '#engine/data/read-data.ts'
import { dearerWords } from '#engine/evaluation/dearer-words.ts'
import { measureView } from '#engine/evaluation/measure.ts'
import { openTrimmed } from '#engine/model/kept-model.ts'
import type { Model } from '#engine/model/model.ts'
import { locateOverflow } from '#engine/model/overflow.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { storedBytesPerParameter } from '#engine/model/weights/residency.ts'
import { type MethodResult, parseOptions } from '#engine/pruning/method.ts'
import { densePlan, reachedSparsity, removedText } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import type { Dependency, StepKind } from '#engine/steps/step-name.ts'
import type { TrimmedTokenizer } from '#engine/tokenizer/reread-windows.ts'
import { budgetMet, type ChosenPlan, choosePlan, recoverResult, repairResult, withFiles } from './refit.ts'
import { openPlace, type RunPlace } from './run-place.ts'
import type { RunHost } from './run-steps.ts'
import { requireWeightType, type StoredWeights, storeWeights } from './stored-weights.ts'
import { closeTrimmed, planOfWhole, trimFirst } from './trim-first.ts'

/**
 * Runs one request, from the model on disk to the run's document. Steps that the host has stored are not computed again, so a killed run
 * resumes.
 */
export async function executeRun(request: RunRequest, host: RunHost): Promise<RunDocument> {
  const { method, seed } = request
  const backend = await openBackend(request.backend)
  const { place: whole, fingerprint } = await openPlace(request, host, backend.name)
  const { model, steps, precision } = whole
  const dense = method === denseMethod
  requireWeightType(whole)
  const options = dense ? {} : parseOptions(findMethod(method), request.options)
  for (const text of unpackedNotes(model.checkpoint)) whole.note(text)
  const place = await trimFirst(whole)
  const { pruned, repair, recovered, recovery } = await decide(place, options).finally(() => closeTrimmed(place))
  const refitted = withFiles({ ...recovered, plan: planOfWhole(place, recovered.plan) })
  const stored = await storeWeights(whole, refitted)
  const { result, mixed } = stored ?? { result: refitted }
  const { dearer, ...measured } = await measure(whole, result, stored).finally(() => stored?.close())
  const begin = await usedBeginOf(whole)
  await steps.requireSameModel()
  return {
    model: model.name,
    fingerprint,
    method,
    options,
    seed,
    ...(request.weights ? { weights: request.weights } : {}),
    ...begin,
    ...('calibration' in pruned ? { calibration: pruned.calibration } : {}),
    sparsity: { nominal: pruned.sparsity, reached: reachedSparsity(place.model.spec, recovered.plan) },
    ...budgetMet(whole, pruned, stored?.bytes),
    plan: result.plan,
    ...repair,
    ...recovery,
    ...(mixed ? { mixed } : {}),
    ...choicesOf({ ...result, ranking: rankingOf(place.trimmed?.ranking ?? result.ranking, dearer) }),
    notes: [...whole.notes, ...removedNotes(model, result), ...result.notes],
    ...measured,
    passes: steps.passes,
    precision,
    seconds: steps.allSeconds('sharedSeconds' in pruned ? pruned.sharedSeconds : 0),
    backend: backend.name,
    version,
  }
}

/** Prunes, repairs and recovers. The plans are those of the place's model, which may have lost rows of its vocabulary before. */
async function decide(place: RunPlace, options: Record<string, unknown>) {
  const { spec } = place.model
  const dense = place.request.method === denseMethod
  const pruned = dense ? { result: { plan: densePlan(spec), decisions: [], notes: [] }, sparsity: 0 } : await prune(place, options)
  const { result: repaired, ...repair } = await repairResult(place, pruned.result)
  const { result: recovered, ...recovery } = await recoverResult(place, repaired)
  return { pruned, repair, recovered, recovery }
}

/** Both shares that a plan removes, if it removes rows of the vocabulary. */
const removedNotes = ({ spec }: Model, { plan }: MethodResult): string[] =>
  plan.vocabulary ? [`${upperFirst(removedText(spec, plan))} were removed.`] : []

const rankingOf = (ranking: TokenRanking | undefined, dearer: TokenRanking['dearer']): TokenRanking | undefined =>
  ranking && { ...ranking, ...(dearer ? { dearer } : {}) }

/** How the run's windows began, unless it read them as the reference does. */
export async function usedBeginOf(place: RunPlace): Promise<Pick<RunDocument, 'beginToken'>> {
  const { beginToken = 'reference' } = place.request
  return beginToken === 'reference' ? {} : { beginToken: (await place.begin()).used }
}

const choicesOf = (result: Omit<MethodResult, 'ranking'> & { readonly ranking: TokenRanking | undefined }) => ({
  ...(result.experts ? { experts: result.experts } : {}),
  ...(result.ranking ? { ranking: result.ranking } : {}),
  ...(result.gates ? { gates: result.gates } : {}),
  decisions: [...result.decisions],
  ...(result.selections ? { selections: [...result.selections] } : {}),
  ...certificationOf(result),
})

interface Pruned extends ChosenPlan {
  readonly calibration: UsedData
  /** Seconds of pruning that this run did not spend, because other runs had done the steps. */
  readonly sharedSeconds: number
}

async function prune(place: RunPlace, options: Record<string, unknown>): Promise<Pruned> {
  const { model, steps, request } = place
  const method = findMethod(request.method)
  const counted = await countCalibration(place, options)
  const { windows, used } = counted ? { windows: [], used: counted.used } : await readCalibration(place, method.windows(options))
  const start = performance.now()
  const waited = model.store.secondsWaiting
  const run = steps.methodRun(request.seed)
  const view = denseView(model)
  const chosen = await choosePlan(place, { view, calibration: windows, ...(counted ? { counted } : {}), options, run }).catch(
    async (thrown: unknown) => {
      throw await locateOverflow(thrown, view, windows)
    },
  )
  const { result } = chosen
  const { sharedSeconds } = steps
  steps.seconds.pruning = (performance.now() - start) / 1000 + steps.foundSeconds
  noteResidency(place, model.store.secondsWaiting - waited, (performance.now() - start) / 1000)
  const notes = [...result.notes, ...precisionNotes(place, result)]
  for (const text of notes) steps.host.emit({ type: 'note', text })
  return { ...chosen, result: { ...result, notes }, calibration: used, sharedSeconds }
}

function precisionNotes({ precision }: RunPlace, result: MethodResult): string[] {
  const { certified } = certificationOf(result)
  if (precision === 'bfloat16')
    return ['Everything was computed with bfloat16 products, for a first look: scores, choices and measures can differ from float32.']
  return certified ? [certifiedNote(certified)] : []
}

/** How the choices of a run were certified. */
export function certifiedNote({ rounds, candidates, rescored }: NonNullable<RunDocument['certified']>): string {
  const winners = rescored === 1 ? ['one', 'was'] : [grouped(rescored), 'were']
  return `${grouped(candidates)} candidates in ${grouped(rounds)} ${rounds === 1 ? 'round' : 'rounds'} were ranked with bfloat16 products. The ${winners[0]} that could still win, by the errors measured on the way, ${winners[1]} scored again as in float32.`
}

const grouped = (count: number): string => count.toLocaleString('en')

/** Adds a note on where the weights were kept, if they did not all fit in memory as float32. */
function noteResidency(place: RunPlace, waited: number, seconds: number): void {
  const { residency } = place.model.store
  if (residency === 'resident') return
  const share = ((100 * waited) / seconds).toFixed(0)
  place.note(
    residency === 'packed'
      ? 'Weights stayed in memory as stored and were unpacked when they were used.'
      : `Weights were read from disk when they were used; pruning spent ${share} % of its time waiting for the disk.`,
  )
}

/** Counts all of the calibration text, if the method does and nothing says how many windows to use. */
async function countCalibration(place: RunPlace, options: Record<string, unknown>) {
  const { tokenizer, request } = place
  const { calibration, method } = request
  if (!calibration || !tokenizer || calibration.windows !== undefined || !findMethod(method).readsAll?.(options)) return undefined
  return place.count(calibration, tokenizer)
}

/** Reads `wanted` calibration windows, the number that the method uses with its options, or fewer if the request says so. */
async function readCalibration(place: RunPlace, wanted: number): Promise<ReadData> {
  const { calibration, method, seed } = place.request
  if (!calibration) throw new EspalierError('usage', `${method} needs calibration data. Choose a text for it.`)
  const { windows: requested = wanted } = calibration
  const read = await place.read({ ...calibration, windows: Math.min(wanted, requested) }, seed)
  for (const text of read.notes) place.note(`Calibration: ${text}`)
  if (requested > wanted)
    place.note(`Calibration: ${requested} windows were requested, but ${method} uses only ${wanted} with these options.`)
  return read
}

async function measure(place: RunPlace, result: MethodResult, stored: StoredWeights | undefined) {
  const { model, steps, request } = place
  const { host } = steps
  let view: ModelView | undefined
  const open = async () => {
    view ??= stored ? denseView((await stored.open()).model) : viewWithPlan(model, result.plan, result.tensors)
    return view
  }
  const subject = stored ? { plan: result.plan, weights: stored.identity } : result.plan
  const trimmed = await openTrimmed(model, result.plan, place.tokenizer)
  const measures: TakenMeasure[] = await sizeMeasures(model, result, stored?.bytes, await bytesBeside(model))
  for (const size of measures) host.emit({ type: 'measure', measure: size })
  const answers: { prompt: string; text: string }[] = []
  const evaluation: UsedData[] = []
  const questions: ScoredTask[] = []
  let dearer: TokenRanking['dearer']
  const context = { ...contextOf(place, result, stored, trimmed), view: open }
  try {
    for (const wanted of request.measures) {
      const taken = await measureView(wanted, {
        ...context,
        step: (step, compute) => steps.step({ ...step, on: { view: subject, asked: step.on } }, () => steps.time(wanted.kind, compute)),
      })
      const own = taken.measures.map((one) => withVocabulary(inPrecision(one, place), result.plan))
      for (const one of own) host.emit({ type: 'measure', measure: one })
      measures.push(...own)
      answers.push(...taken.answers)
      evaluation.push(...taken.evaluation)
      questions.push(...taken.questions)
      for (const text of taken.notes) place.note(text)
    }
    if (trimmed) dearer = await findDearer(place, open, trimmed, subject)
  } catch (thrown) {
    throw view ? await locateOverflow(thrown, view, place.lastRead) : thrown
  } finally {
    view?.dispose()
  }
  return { measures, evaluation, dearer, ...(answers.length > 0 ? { answers } : {}), ...(questions.length > 0 ? { questions } : {}) }
}

const wordsStep: StepKind = { version: 1 }
const mostWordWindows = 16

/** The words that became dearer in the first windows of the first text that perplexity is measured on. */
async function findDearer(
  place: RunPlace,
  open: () => Promise<ModelView>,
  trimmed: TrimmedTokenizer,
  subject: Dependency,
): Promise<TokenRanking['dearer']> {
  const { model, steps, request, tokenizer } = place
  const measured = request.measures.find((one) => one.kind === 'perplexity')
  if (measured?.kind !== 'perplexity' || !tokenizer) return undefined
  const windows = (await place.read(measured.data, 0)).windows.slice(0, mostWordWindows)
  const words = await steps.step({ kind: wordsStep, label: 'dearer words', on: { subject, windows } }, async () => {
    const before = { view: denseView(model), tokenizer, windows }
    const after = { view: await open(), tokenizer: trimmed.tokenizer, windows: windows.map((window) => trimmed.reread(window)) }
    return steps.time('perplexity', () => dearerWords(before, after, { signal: steps.host.signal }))
  })
  return { text: measured.name, words }
}

/** Marks a measure that was computed in bfloat16, because it is not compared with exact ones. */
const inPrecision = (measure: TakenMeasure, { precision }: RunPlace): TakenMeasure =>
  measure.on && precision === 'bfloat16' ? { ...measure, on: { ...measure.on, precision } } : measure

/** Marks a mean over tokens of a trimmed vocabulary, because it is only compared within that vocabulary. */
function withVocabulary(measure: TakenMeasure, { vocabulary }: Plan): TakenMeasure {
  if (!vocabulary || !measure.on || !isPerToken(measure.name)) return measure
  return { ...measure, on: { ...measure.on, vocabulary: hashOf([Int32Array.from(vocabulary.kept)]) } }
}

/**
 * Returns everything that measures need besides the view. A trimmed tokenizer reads the text of the same windows again, so that bits per
 * byte are taken on the same bytes as the dense model's.
 */
function contextOf(place: RunPlace, { plan }: MethodResult, stored: StoredWeights | undefined, trimmed: TrimmedTokenizer | undefined) {
  const { model, steps } = place
  const { signal, fetchFile } = steps.host
  const removes = stored !== undefined || reachedSparsity(model.spec, plan) > 0
  return {
    ...(removes ? { dense: denseView(model) } : {}),
    ...(stored ? { files: { own: async () => (await stored.open()).path, dense: stored.writeDense } } : {}),
    tokenizer: trimmed?.tokenizer ?? place.tokenizer,
    spec: model.spec,
    signal,
    progress: (phase: string, done: number, total: number, unit: string) => steps.progress(phase, done, total, unit),
    read: async (data: DataRequest) => {
      const found = await place.read(data, 0)
      return trimmed ? { ...found, windows: found.windows.map((window) => trimmed.reread(window)) } : found
    },
    ...(fetchFile ? { fetchFile } : {}),
  }
}

/** Counts the rounds that were certified, their candidates, and the candidates that were rescored. Empty if no round was certified. */
function certificationOf({ decisions, selections = [] }: MethodResult): Pick<RunDocument, 'certified'> {
  const rounds = [
    ...decisions.map(({ scores, certified }) => ({ candidates: scores.length, certified })),
    ...selections.map(({ candidates, certified }) => ({ candidates: candidates.length, certified })),
  ].flatMap(({ candidates, certified }) => (certified ? { candidates, rescored: certified.rescored } : []))
  if (rounds.length === 0) return {}
  const sum = (what: 'candidates' | 'rescored') => rounds.reduce((total, round) => total + round[what], 0)
  return { certified: { rounds: rounds.length, candidates: sum('candidates'), rescored: sum('rescored') } }
}

/** Returns the bytes of a quantised GGUF file that are not weights, such as its tokenizer. A file that was written has them too. */
async function bytesBeside({ checkpoint: { path, quantised } }: Model): Promise<number> {
  return quantised && path.endsWith('.gguf') ? Math.max(0, (await stat(path)).size - quantised.bytes) : 0
}

/**
 * Counts the remaining parameters: of the whole model with embedding and head (once if both are one matrix), of the block stack, and for
 * mixtures of experts also those that one token uses. Estimates the bytes of the whole model as its checkpoint stores it. With a weight
 * type, the bytes are those of the file that was written.
 */
async function sizeMeasures(model: Model, { plan }: MethodResult, written: number | undefined, beside: number): Promise<TakenMeasure[]> {
  const pruned = specWithPlan(model.spec, plan)
  const { total: stack, active } = activeParameters(pruned)
  const [stored, rest] = [Vocabulary.parameters(pruned), await Vocabulary.distinctParameters(model.checkpoint, pruned)]
  return [
    { name: 'parameters', dataset: '', value: stack + rest, unit: 'parameters' },
    { name: 'parameters', dataset: 'block stack', value: stack, unit: 'parameters' },
    // `subjectTitle` shows this data set as "active for each token". Histories contain the name, so it stays.
    ...(model.spec.router ? [{ name: 'parameters' as const, dataset: 'met by one token', value: active + rest, unit: 'parameters' }] : []),
    { name: 'size', dataset: '', value: written ?? Math.round((stack + stored) * storedBytesPerParameter(model)) + beside, unit: 'bytes' },
  ]
}
