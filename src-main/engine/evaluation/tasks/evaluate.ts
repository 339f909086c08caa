import type { ScoredQuestion } from '#contract/data/questions.ts'
import { EspalierError } from '#contract/errors.ts'
import type { TakenMeasure } from '#contract/runs/measures.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import type { TaskId } from '#contract/titles.ts'
import { measureAccuracy } from './accuracy.ts'
import { type Encoder, encodeQuestion } from './encode.ts'
import { type Question, tasks } from './index.ts'
import { judge, type LikelihoodModel, type Outcome, scoreContinuations } from './score.ts'

export interface TaskOptions {
  signal: AbortSignal
  report?: (progress: Progress) => void
}

/** Runs one zero-shot task. Returns its measures, with a row per group and subject if it has them, and every question with its scores. */
export async function evaluateTask(
  model: LikelihoodModel,
  tokenizer: Encoder,
  id: TaskId,
  questions: Question[],
  options: TaskOptions,
): Promise<{ measures: TakenMeasure[]; questions: ScoredQuestion[] }> {
  const report = (done: number, total: number) => options.report?.({ phase: tasks[id].title, done, total, unit: 'questions' })
  const outcomes = await answerQuestions(model, tokenizer, questions, options.signal, report)
  return {
    measures: measureAccuracy(id, outcomes),
    questions: questions.map((question, at) => keepQuestion(question, outcomes[at] as Outcome)),
  }
}

/** Scores the questions with the model, in order. */
export async function answerQuestions(
  model: LikelihoodModel,
  tokenizer: Encoder,
  questions: Question[],
  signal: AbortSignal,
  report: (done: number, total: number) => void = () => undefined,
): Promise<Outcome[]> {
  const encoded = questions.map((question) => encodeQuestion(tokenizer, question, model.contextLength))
  const requests = encoded.flatMap((question) => question.requests)
  const share = questions.length / requests.length
  const likelihoods = await scoreContinuations(model, requests, signal, (done) => report(Math.round(done * share), questions.length))
  let first = 0
  return questions.map((question, index) => {
    const { places, requests: own } = encoded[index] ?? { places: [], requests: [] }
    const scores = places.map(({ request, continuation }) => likelihoods[first + request]?.[continuation] ?? Number.NaN)
    first += own.length
    if (scores.some(Number.isNaN))
      throw new EspalierError('invalid', `The model gives no probability (NaN) for ${questionText(question)}. Its weights are damaged.`)
    return judge(question, scores)
  })
}

/** The maximum number of characters kept of a context (from its end) and of a choice. */
const keptContext = 1500
const keptChoice = 400

/** A question in readable form. If the choices have different contexts, the part that these do not share becomes part of the choice. */
function keepQuestion({ requests, gold }: Question, { scores, correct, correctPerCharacter }: Outcome): ScoredQuestion {
  const [first, ...others] = requests.map(({ context }) => context)
  const start = others.reduce((text, context) => commonStart(text, context), first ?? '')
  // Cut at a space, so that choices begin with a whole word.
  const shared = others.length > 0 ? start.replace(/\S+$/, '') : start
  const choices = requests.flatMap(({ context, continuations }) => continuations.map((text) => context.slice(shared.length) + text))
  return {
    context: shared.slice(-keptContext),
    choices: choices.map((choice) => choice.slice(0, keptChoice)),
    gold,
    scores,
    correct,
    ...(correctPerCharacter === undefined ? {} : { correctPerCharacter }),
  }
}

function commonStart(a: string, b: string): string {
  let length = 0
  while (length < a.length && a[length] === b[length]) length++
  return a.slice(0, length)
}

function questionText(question: Question): string {
  return JSON.stringify(question.requests[0]?.context.slice(-80))
}
