import type { Question } from './index.ts'

/** The number of tokens that run together. Larger products are not faster. */
const tokensPerBatch = 2048

/**
 * Log-probabilities of the continuations of requests of any length, in the given order. Requests run side by side without padding, so that
 * products are large. Those with the longest prefix run first: if memory is too small, the task fails at its start.
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
  const batches: Numbered[][] = []
  let left = 0
  for (const one of numbered.sort((a, b) => b.request.prefix.length - a.request.prefix.length || a.index - b.index)) {
    const tokens = tokensOf(one.request)
    if (tokens > left) {
      batches.push([])
      left = tokensPerBatch
    }
    batches.at(-1)?.push(one)
    left -= tokens
  }
  return batches
}

/** The number of tokens that are read for a request. */
const tokensOf = ({ prefix, continuations }: LikelihoodRequest): number =>
  continuations.reduce((sum, { length }) => sum + length - 1, prefix.length)

/**
 * Whether the likeliest choice is right, by its total likelihood and by its likelihood per character. In a tie, the first choice counts.
 */
export interface Outcome {
  /** A log-likelihood per choice, in nats. */
  scores: number[]
  correct: boolean
  correctPerCharacter?: boolean
  subject?: string
}

/** Judges a question by its likelihoods, one per choice. */
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

/** A prefix of token ids, and several continuations of it. */
export interface LikelihoodRequest {
  readonly prefix: Int32Array
  readonly continuations: readonly Int32Array[]
}

/** The interface of a model for scoring. */
export interface LikelihoodModel {
  /**
   * The maximum number of tokens that the model reads at once. A prefix with a continuation may have one more, because the last token is
   * only predicted.
   */
  readonly contextLength: number
  /**
   * Sums the natural log-probabilities of each continuation's tokens after its prefix, in float64. Results are in the given order. The
   * requests run together, and a prefix runs once for all its continuations.
   */
  logProbabilities(requests: readonly LikelihoodRequest[], signal: AbortSignal): Promise<number[][]>
}
