import { z } from 'zod'
import { type InspectionDocument, inspectionDocument } from '#contract/comparison/inspected.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Listener } from '#contract/events.ts'
import { explainIssues } from '#contract/explain-issue.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { pruningSeconds, pruningTime } from '#contract/runs/phases.ts'
import { type RunDocument, runDocument, studyDocument } from '#contract/runs/run.ts'
import { type RunEvent, runEvent } from '#contract/runs/run-events.ts'
import type { RunEntry, RunEnvironment, RunProblem } from '#contract/runs/runs.ts'
import { reachOfStep } from '#contract/runs/step-names.ts'
import { version as ownVersion } from '#contract/version.ts'
import { isDiskError } from '#db/database.ts'
import type { History } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { flattenParameters } from '#db/runs/parameters.ts'
import type { RunPatch, RunRow } from '#db/runs/runs.ts'
import { queueMissingBaseline } from './baselines.ts'
import type { FoundStep } from './job-side.ts'
import { outcomesOf } from './task-outcomes.ts'
import { throttle } from './throttle.ts'

/** Progress arrives many times a second. Listeners get it at this interval; the file less often. */
const progressToldMilliseconds = 100
const progressKeptMilliseconds = 2000

/** What the process that does an attempt knows of its surroundings. */
export type AttemptEnvironment = Omit<RunEnvironment, 'version' | 'backend'>

type ProgressEvent = Extract<RunEvent, { type: 'progress' }>
export type RunRecorder = ReturnType<typeof runRecorder>

/**
 * Stores the events of one attempt of a run and forwards them.
 * @param secondsSoFar how long the attempt has taken; by default counted from now
 */
export function runRecorder(history: History, row: RunRow, emit: Listener, secondsSoFar = stopwatch()) {
  const { number, id } = row
  let phase: string | undefined
  const telling = throttle<ProgressEvent>(progressToldMilliseconds, (event) =>
    emit({ name: 'run event', data: { run: id, recorded: { sequence: history.events.lastSequence(number), at: Date.now(), event } } }),
  )
  const keeping = throttle<ProgressEvent>(progressKeptMilliseconds, keepProgress)

  /** No error on a full disk here: the next step fails on it too and ends the run with that reason. */
  function keepProgress({ progress }: ProgressEvent): void {
    try {
      history.runs.patch(number, { progress })
    } catch (thrown) {
      if (!isDiskError(thrown)) throw thrown
    }
  }

  /** Delivers the first event of a phase and its end at once, and always the last event. */
  function recordProgress(event: ProgressEvent): void {
    const urgent = event.progress.phase !== phase || event.progress.done >= event.progress.total
    phase = event.progress.phase
    keeping.push(event, urgent)
    telling.push(event, urgent)
  }

  function keep(event: RunEvent, at: number) {
    if (event.type === 'measure') history.measures.add(number, event.measure, at)
    if (event.type === 'width') history.documents.set(number, { width: { kept: event.kept, of: event.of } })
    if (event.type !== 'neuron scores') return history.events.add(number, event, at)
    history.documents.set(number, { neuronScores: { scores: event.scores, cuts: event.cuts } })
    // The scores are long and stored in the run's document; the event only records their arrival.
    return { ...history.events.add(number, { ...event, scores: [] }, at), event }
  }

  function record(event: RunEvent, at: number): void {
    const recorded = history.transaction(() => keep(event, at))
    emit({ name: 'run event', data: { run: id, recorded } })
  }

  return {
    secondsSoFar,
    /** Discards undelivered progress: the run no longer belongs to this recorder. */
    drop(): void {
      telling.drop()
      keeping.drop()
    },
    /** Delivers pending progress. */
    flush(): void {
      telling.flush()
      keeping.flush()
    },
    event(raw: unknown, at = Date.now()): void {
      const parsed = runEvent.safeParse(raw)
      const event: RunEvent = parsed.success
        ? parsed.data
        : {
            type: 'note',
            text: `An event from the run could not be stored. ${explainIssues(parsed.error, raw)[0]?.message ?? ''}`.trimEnd(),
          }
      if (event.type === 'progress') recordProgress(event)
      else if (event.type === 'model') belongTo(history, row, event.fingerprint)
      else record(event, at)
    },
    getStep(name: string): FoundStep | undefined {
      try {
        const found = history.steps.get(id, name) ?? (reachOfStep(name) === 'own' ? undefined : history.steps.takeOver(id, name))
        return found && { ...found, own: doerOf(found.value) === id }
      } catch (thrown) {
        throw toDiskError(thrown)
      }
    },
    putStep(name: string, value: unknown, tensors?: TensorFile): void {
      try {
        history.steps.put(id, name, isObject(value) ? { ...value, run: id } : value, Date.now(), tensors)
      } catch (thrown) {
        throw toDiskError(thrown)
      }
    },
    /** Stores the run's result, everything its page and comparisons need, in one transaction. */
    finish(result: unknown, environment: AttemptEnvironment): void {
      this.flush()
      const document = z.union([runDocument, studyDocument, inspectionDocument]).parse(result)
      const { options: resolved, version, backend, notes: remarks, seconds: phaseSeconds } = document
      history.transaction(() => {
        const end = ended(row, secondsSoFar())
        const { fingerprint } = document
        const model = fingerprint === undefined ? {} : { fingerprint }
        history.runs.patch(number, { ...end, ...model, status: 'done', progress: null, problem: null })
        history.documents.set(number, {
          resolved,
          environment: { ...environment, version, backend },
          remarks,
          phaseSeconds,
          calibration: document.calibration ?? null,
          evaluation: document.evaluation,
          repair: document.repair ?? null,
          recovery: ('recovery' in document && document.recovery) || null,
          fit: document.fit ?? null,
          precision: document.precision ?? null,
        })
        history.runs.setParameters(number, flattenParameters(history.documents.request(number), resolved))
        if ('study' in document) history.documents.set(number, { study: document.study })
        else if ('inspected' in document) keepInspected(history, row, document.inspected)
        else keepPlan(history, number, document, end.ended_at)
        const baseline = queueMissingBaseline(history, { ...row, fingerprint: fingerprint ?? null })
        if (baseline !== undefined) emit({ name: 'run changed', data: { run: history.runs.entries([baseline])[0] as RunEntry } })
      })
    },
    /** The environment of an attempt that gave no document. */
    keepEnvironment(environment: AttemptEnvironment): void {
      history.documents.set(number, { environment: { ...environment, version: ownVersion, backend: null } })
    },
    fail(problem: RunProblem, status: 'failed' | 'interrupted', environment: AttemptEnvironment): void {
      this.flush()
      history.transaction(() => {
        this.keepEnvironment(environment)
        history.runs.patch(number, { ...ended(row, secondsSoFar()), status, problem })
      })
    },
  }
}

function stopwatch(): () => number {
  const begun = performance.now()
  return () => (performance.now() - begun) / 1000
}
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** The run that computed a step. */
const doerOf = (value: unknown): unknown => (isObject(value) ? value.run : undefined)

/**
 * The row's final changes after an attempt, whatever its outcome.
 * @param attemptSeconds by a monotonic clock
 */
export function ended(row: Pick<RunRow, 'seconds'>, attemptSeconds: number): RunPatch & { ended_at: number } {
  return { owner: null, wish: null, ended_at: Date.now(), seconds: (row.seconds ?? 0) + attemptSeconds }
}

export function toDiskError(thrown: unknown): unknown {
  if (!isDiskError(thrown)) return thrown
  return new EspalierError('disk', toErrorMessage(thrown).message)
}

/** Stores the result of an inspection; answers become a transcript. */
function keepInspected(history: History, row: RunRow, found: InspectionDocument['inspected']): void {
  if (found.kind === 'divergence') return void history.documents.set(row.number, { inspected: found })
  const { inspect } = history.documents.request(row.number)
  const model = history.models.find(row.model)
  if (inspect?.kind !== 'generation' || !model) throw new EspalierError('internal', `"${row.name}" did not ask for answers.`)
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

/** Deletes what earlier attempts reported about another model: one run never mixes numbers of two models. */
function belongTo(history: History, { id, number }: RunRow, fingerprint: string): void {
  const before = history.runs.find(id)?.fingerprint ?? null
  history.transaction(() => {
    if (before !== null && before !== fingerprint) {
      history.events.clear(number)
      history.measures.clear(number)
      history.documents.clear(number)
    }
    history.runs.patch(number, { fingerprint })
  })
}

/** Stores what only pruning runs have: the plan, and the measures and decisions that no event carried. */
function keepPlan(history: History, number: number, document: RunDocument, at: number): void {
  history.runs.patch(number, { reached: document.sparsity.reached, has_plan: true })
  const { plan, answers = [], passes = null, certified = null, questions = [] } = document
  history.documents.set(number, { plan, answers, passes, certified, outcomes: questions.map(outcomesOf) })
  history.documents.setQuestions(number, questions)
  // An interrupted attempt may have measured on a text that was edited since.
  history.measures.clear(number)
  const pruning = pruningSeconds(document.seconds)
  if (pruning !== null) history.measures.add(number, { name: pruningTime, dataset: '', value: pruning, unit: 's' }, at)
  for (const measure of document.measures) history.measures.add(number, measure, at)
  const rounds = new Set(history.events.decisions(number).map(({ round }) => round))
  for (const decision of document.decisions) if (!rounds.has(decision.round)) history.events.add(number, { type: 'decision', decision }, at)
}
