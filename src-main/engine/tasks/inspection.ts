import { distinctTrigrams, endsInLoop, equalTokens, repeatedEnding, repetitionRate } from '#contract/comparison/answer-statistics.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import { EspalierError } from '#contract/errors.ts'
import type { TokenPage } from '#contract/inspection/divergence.ts'
import type { AnsweringColumn, InspectionDocument } from '#contract/inspection/inspected.ts'
import { type AnswersRequest, type DivergenceRequest, pageStep } from '#contract/inspection/inspection.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { version } from '#contract/version.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { unpackedNotes } from '#engine/checkpoint/checkpoint.ts'
import { summarize } from '#engine/evaluation/divergence/summary.ts'
import { makeTokenPage, pagesOf } from '#engine/evaluation/divergence/token-page.ts'
import { answerWith } from '#engine/evaluation/generation/generate-columns.ts'
import { openTrimmed } from '#engine/model/kept-model.ts'
import { denseView, openView } from '#engine/model/views/view.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { requireOwnModel } from './own-model.ts'
import { usedBeginOf } from './run/run.ts'
import { openPlace, type RunPlace } from './run/run-place.ts'
import type { RunHost } from './run/run-steps.ts'

type Subjects = Extract<ComputeTask, { kind: 'inspection' }>['subjects']
type Answer = Extract<InspectionDocument['inspected'], { kind: 'generation' }>['answers'][number]
type Found = Pick<InspectionDocument, 'inspected' | 'notes' | 'evaluation' | 'beginToken'>

const pageKind: StepKind = { version: 1 }
/** Answers are never shared between runs, because an answer includes the time it took. */
const answerKind: StepKind = { version: 2, reach: 'own' }

/**
 * Inspects runs of one model as the request asks. A step is one page of tokens or one answer. Steps that the host has stored are not
 * computed again.
 */
export async function executeInspection(request: RunRequest, subjects: Subjects, host: RunHost): Promise<InspectionDocument> {
  const { inspect } = request
  if (!inspect) throw new EspalierError('usage', 'An inspection must say what to compare. Give it a text or prompts.')
  const backend = await openBackend(request.backend)
  const { place, fingerprint } = await openPlace({ ...request, precision: 'float32' }, host, backend.name)
  const { model, steps } = place
  await requireOwnModel(
    model.path,
    subjects.map((subject) => subject.fingerprint),
    host,
  )
  const look = () => (inspect.kind === 'divergence' ? diverge(place, subjects, inspect) : answer(place, subjects, inspect))
  const found = await steps.time(inspect.kind, look)
  await steps.requireSameModel()
  return {
    model: model.name,
    fingerprint,
    method: request.method,
    options: {},
    seed: request.seed,
    ...found,
    seconds: { ...steps.seconds, [inspect.kind]: (steps.seconds[inspect.kind] ?? 0) + steps.foundSeconds },
    backend: backend.name,
    version,
  }
}

async function diverge(place: RunPlace, subjects: Subjects, { data }: DivergenceRequest): Promise<Found> {
  const trimmed = subjects.find(({ plan }) => plan?.vocabulary)
  if (trimmed)
    throw new EspalierError(
      'infeasible',
      `${trimmed.run.name} reads text as other tokens than the dense model, because rows of its vocabulary were removed, so they cannot be compared token by token. Compare bits per byte instead, or see the words that became dearer on the page of the run.`,
    )
  const { windows, used, notes } = await place.read(data, 0)
  for (const text of notes) place.note(text)
  const pages = await makePages(place, subjects, windows)
  const runs = subjects.map(({ run }) => run)
  const divergence = { data: used, ...summarize(pages, runs) }
  return {
    ...(await usedBeginOf(place)),
    evaluation: [used],
    notes: [...unpackedNotes(place.model.checkpoint), ...place.notes],
    inspected: { kind: 'divergence', divergence },
  }
}

async function makePages({ model, tokenizer, steps }: RunPlace, subjects: Subjects, windows: readonly Int32Array[]): Promise<TokenPage[]> {
  const view = denseView(model)
  const opened = await Promise.all(subjects.map(async ({ plan }) => ({ plan, view: await openView(model, plan) })))
  const total = windows.reduce((sum, { length }) => sum + length, 0)
  const tell = (done: number) => steps.progress('Comparing with the dense model', Math.round(done), total, 'tokens')
  const pages: TokenPage[] = []
  let before = 0
  try {
    for (const [page, group] of pagesOf(windows).entries()) {
      let parts = 0
      const progress = () => tell(before + (group.ids.length * ++parts) / view.parts.length)
      const context = { view, subjects: opened, tokenizer, signal: steps.host.signal, progress }
      const on = { page, indices: group.indices, ids: group.ids, tokens: group.tokens, plans: subjects.map(({ plan }) => plan) }
      pages.push(await steps.step({ kind: pageKind, label: pageStep(page), on }, () => makeTokenPage(context, page, group)))
      before += group.ids.length
      tell(before)
    }
    return pages
  } finally {
    for (const one of opened) one.view.dispose()
  }
}

/** Generates the answer of every column to every prompt. Each answer is a step. */
async function answer(
  { model, tokenizer, steps }: RunPlace,
  subjects: Subjects,
  { dense, prompts, settings }: AnswersRequest,
): Promise<Found> {
  if (!tokenizer) throw new EspalierError('invalid', withoutTokenizer('answer', model.name))
  const columns = [...(dense ? [{ run: null, plan: null }] : []), ...subjects]
  const answers: Answer[] = []
  const { signal } = steps.host
  const request = { prompts: prompts.map(({ text }) => ({ text })), settings }
  for (const [column, { run, plan }] of columns.entries()) {
    const view = await openView(model, plan)
    const own = (await openTrimmed(model, plan, tokenizer))?.tokenizer ?? tokenizer
    try {
      for (const prompt of prompts.keys()) {
        const label = `answer of ${run?.name ?? 'the dense model'} to prompt ${prompt}`
        const asked = { kind: answerKind, label, on: { plan, column, prompt, text: prompts[prompt]?.text, settings } }
        answers.push(await steps.step(asked, () => answerWith({ request, view, tokenizer: own, column, prompt, signal })))
        steps.progress('Answering prompts', answers.length, columns.length * prompts.length, 'answers')
      }
    } finally {
      view.dispose()
    }
  }
  const described = columns.map(({ run, plan }, column) => {
    const one = describeColumn(run, column, answers)
    // Ids of different vocabularies cannot be compared.
    return plan?.vocabulary || columns[0]?.plan?.vocabulary ? { ...one, equal: null } : one
  })
  return { evaluation: [], notes: [], inspected: { kind: 'generation', columns: described, answers } }
}

const idsOf = ({ tokens }: Answer): number[] => tokens.map(({ id }) => id)

function describeColumn(run: AnsweringColumn['run'], column: number, answers: readonly Answer[]): AnsweringColumn {
  const own = answers.filter((one) => one.column === column)
  const equal = own.map((one) => {
    const first = answers.find((other) => other.column === 0 && other.prompt === one.prompt)
    return equalTokens(idsOf(one), first ? idsOf(first) : [])
  })
  return {
    run,
    answers: own.length,
    tokens: meanOf(own.map(({ tokens }) => tokens.length)),
    equal: column === 0 ? null : meanOf(equal),
    repetition: meanOf(own.map((one) => repetitionRate(idsOf(one)))),
    looping: meanOf(own.map((one) => Number(endsInLoop(idsOf(one))))),
    distinct: meanOf(own.map((one) => distinctTrigrams(idsOf(one)))),
    ending: meanOf(own.map((one) => repeatedEnding(idsOf(one)))),
  }
}
