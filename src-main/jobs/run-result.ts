import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { UsedBegin } from '#contract/data/begin-token.ts'
import type { ScoredTask, TaskOutcomes } from '#contract/data/questions.ts'
import { EspalierError } from '#contract/errors.ts'
import { type InspectionDocument, inspectionDocument } from '#contract/inspection/inspected.ts'
import { isPlain, statesSparsity } from '#contract/runs/amount-text.ts'
import { type Measure, pruningSeconds, pruningTime } from '#contract/runs/measures.ts'
import { type RunDocument, runDocument, studyDocument } from '#contract/runs/run.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { RunEnvironment } from '#contract/runs/runs.ts'
import { beginLabel } from '#contract/runs/step-names.ts'
import type { History } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { queueMissingBaseline } from '#db/runs/baselines.ts'
import { flattenParameters } from '#db/runs/parameters.ts'
import type { RunPatch, RunRow } from '#db/runs/runs.ts'
import type { ComputeHost } from './compute/compute-host.ts'

/** The environment as the process that makes the attempt knows it. */
export type AttemptEnvironment = Omit<RunEnvironment, 'version' | 'backend'>

export function environmentOf(host: ComputeHost, device: string | null, request: RunRequest): AttemptEnvironment {
  return {
    platform: `${process.platform} ${process.arch}`,
    node: host.node ?? process.version,
    device,
    memoryBytes: request.memoryBytes ?? null,
  }
}

/** The result of a finished attempt. */
interface AttemptResult {
  /** The document as the compute process wrote it. */
  result: unknown
  environment: AttemptEnvironment
  end: RunPatch & { ended_at: number }
}

/** Stores a run's result; call it inside a transaction. Returns the number of the dense run that it queued if the experiment lacked one. */
export function storeResult(history: History, row: RunRow, { result, environment, end }: AttemptResult): number | undefined {
  const document = z.union([runDocument, studyDocument, inspectionDocument]).parse(result)
  const { number } = row
  const { options: resolved, version, backend, notes: remarks, seconds: phaseSeconds, fingerprint } = document
  history.runs.patch(number, { ...end, fingerprint, status: 'done', progress: null, problem: null })
  history.documents.set(number, {
    resolved,
    environment: { ...environment, version, backend },
    remarks,
    phaseSeconds,
    calibration: document.calibration ?? null,
    evaluation: document.evaluation,
    beginToken: document.beginToken ?? null,
    repair: document.repair ?? null,
    recovery: ('recovery' in document && document.recovery) || null,
    experts: document.experts ?? null,
    mixed: document.mixed ?? null,
    ranking: document.ranking ?? null,
    precision: document.precision ?? null,
  })
  keepBeginFigures(history, row, document.beginToken)
  history.runs.setParameters(number, flattenParameters(history.documents.request(number), resolved))
  if ('study' in document) history.documents.set(number, { study: document.study })
  else if ('inspected' in document) keepInspected(history, row, document.inspected)
  else keepPlan(history, number, document, end.ended_at)
  return queueMissingBaseline(history, { ...row, fingerprint: fingerprint ?? null })
}

/** Stores with the model what a run measured to decide on the begin token. */
function keepBeginFigures({ models, steps }: History, { model, id }: RunRow, { figures }: Partial<UsedBegin> = {}): void {
  if (!figures || models.find(model)?.beginFigures !== null) return
  const step = steps.named(id, beginLabel)
  models.patch(model, { beginFigures: { ...figures, measuredAt: Date.now(), ...(step === undefined ? {} : { step }) } })
}

/** Stores the result of an inspection. Generated answers become a transcript. */
function keepInspected(history: History, row: RunRow, found: InspectionDocument['inspected']): void {
  if (found.kind === 'divergence') return void history.documents.set(row.number, { inspected: found })
  const { inspect } = history.documents.request(row.number)
  const model = history.models.find(row.model)
  if (inspect?.kind !== 'generation' || !model)
    throw new EspalierError('internal', `"${row.name}" returned answers, but its request is not for answers.`)
  const id = newId('talk')
  history.transcripts.insert({
    id,
    title: row.name,
    prompts: inspect.prompts.map(({ text }) => text),
    promptTags: inspect.prompts.map(({ tags }) => tags),
    columns: found.columns.map(({ run }) => ({ model: { id: model.id, name: model.name }, run })),
    settings: inspect.settings,
    blind: false,
    owner: '',
    createdAt: Date.now(),
  })
  for (const answer of found.answers) history.transcripts.addAnswer(id, answer)
  history.transcripts.patch(id, { status: 'done' })
  history.documents.set(row.number, { inspected: { kind: 'generation', transcript: id, columns: found.columns } })
}

/** Adds to an accuracy which questions were answered correctly. */
function withAnswers(measure: Measure, { precision }: RunDocument, outcomes: readonly TaskOutcomes[]): Measure {
  const found = outcomes.find(({ task }) => task === measure.dataset)
  const hits = { accuracy: found?.correct, 'accuracy per character': found?.correctPerCharacter }[measure.name]
  if (!found || !hits) return measure
  const on = { hash: found.hash, count: hits.length, ...(precision === 'bfloat16' ? { precision } : {}) }
  return { ...measure, on, hits }
}

/** Stores what only pruning runs have: the plan, all measures, and the decisions that no event reported. */
function keepPlan(history: History, number: number, document: RunDocument, at: number): void {
  const { nominal, reached } = document.sparsity
  const { amount } = history.documents.request(number)
  // Options of a method may say how much to remove instead of the amount.
  const isStated = statesSparsity(amount) && (!('sparsity' in amount) || amount.sparsity === nominal)
  // A size or a speed asks for no sparsity, so there is one number: what was reached.
  history.runs.patch(number, { ...(isStated ? {} : { nominal: isPlain(amount) ? nominal : reached }), reached, has_plan: true })
  const { plan, budget = null, answers = [], passes = null, certified = null, questions = [] } = document
  const outcomes = questions.map(outcomesOf)
  history.documents.set(number, { plan, budget, answers, passes, certified, outcomes })
  history.documents.setQuestions(number, questions)
  // An interrupted attempt may have measured on a text that was edited since.
  history.measures.clear(number)
  const pruning = pruningSeconds(document.seconds)
  if (pruning !== null) history.measures.add(number, { name: pruningTime, dataset: '', value: pruning, unit: 's' }, at)
  for (const measure of document.measures) history.measures.add(number, withAnswers(measure, document, outcomes), at)
  const rounds = new Set(history.events.decisions(number).map(({ round }) => round))
  for (const decision of document.decisions) if (!rounds.has(decision.round)) history.events.add(number, { type: 'decision', decision }, at)
}

/** Returns which questions were answered correctly, in a form that is compact enough for tables of many runs. */
function outcomesOf({ task, questions }: ScoredTask): TaskOutcomes {
  const contents = questions.map(({ context, choices, gold }) => [context, choices, gold])
  const digits = (values: readonly boolean[]) => values.map(Number).join('')
  const perCharacter = questions.flatMap(({ correctPerCharacter }) => correctPerCharacter ?? [])
  return {
    task,
    hash: createHash('sha256').update(JSON.stringify(contents)).digest('hex'),
    correct: digits(questions.map(({ correct }) => correct)),
    ...(perCharacter.length === questions.length ? { correctPerCharacter: digits(perCharacter) } : {}),
  }
}
