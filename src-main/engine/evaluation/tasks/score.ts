import type { LikelihoodModel, LikelihoodRequest } from './likelihood-model.ts'
import type { Question } from './task.ts'

/** Tokens of prefixes that run together: larger products are no faster. */
const tokensPerBatch = 2048

/**
 * Log-probabilities of the continuations of requests of any length, in the order given. They run longest first, prefixes of one length side
 * by side, so that they share products without padding and a model too large for its memory fails at the start rather than at the end.
 */
export async function scoreContinuations(
  model: LikelihoodModel,
  requests: readonly LikelihoodRequest[],
  signal: AbortSignal,
  report: (done: number) => void = () => undefined,
): Promise<number[][]> {
  const results: number[][] = []
  let done = 0
  for (const batch of makeBatches(requests)) {
    signal.throwIfAborted()
    const scores = await model.logProbabilities(
      batch.map(({ request }) => request),
      signal,
    )
    for (const [place, { index }] of batch.entries()) results[index] = scores[place] as number[]
    done += batch.length
    report(done)
  }
  return results
}

interface Numbered {
  readonly index: number
  readonly request: LikelihoodRequest
}

function makeBatches(requests: readonly LikelihoodRequest[]): Numbered[][] {
  const numbered = requests.map((request, index) => ({ index, request }))
  const byLength = Map.groupBy(numbered, ({ request }) => request.prefix.length)
  return [...byLength]
    .sort(([a], [b]) => b - a)
    .flatMap(([length, equal]) => {
      const size = Math.max(1, Math.floor(tokensPerBatch / length))
      return Array.from({ length: Math.ceil(equal.length / size) }, (_, i) => equal.slice(i * size, (i + 1) * size))
    })
}

/** Whether the likeliest choice is the right one, as it stands and per character; the first wins a tie. */
export interface Outcome {
  /** One log-likelihood a choice, in nats. */
  scores: number[]
  correct: boolean
  correctPerCharacter?: boolean
  subject?: string
}

/** What a question's likelihoods (one per choice) amount to. */
export function judge(question: Question, scores: number[]): Outcome {
  const outcome: Outcome = { scores, correct: indexOfLargest(scores) === question.gold }
  const { lengths, subject } = question
  if (lengths) outcome.correctPerCharacter = indexOfLargest(scores.map((score, choice) => score / (lengths[choice] ?? 1))) === question.gold
  if (subject !== undefined) outcome.subject = subject
  return outcome
}

function indexOfLargest(values: number[]): number {
  return values.reduce((best, value, index) => (value > (values[best] ?? Number.NEGATIVE_INFINITY) ? index : best), 0)
}
