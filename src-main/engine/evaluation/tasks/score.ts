import type { Likelihood, LikelihoodModel, LikelihoodRequest } from './likelihood-model.ts'
import type { Question } from './task.ts'

/** Tokens of one call to the model: its longest sequence times its sequences. The model runs them in batches as its memory allows. */
const tokensPerBatch = 65536

/**
 * Likelihoods for requests of any length, in the order given. They run longest first, prefixes of one length side by side, so that they
 * share products without padding and a model too large for its memory fails at the start rather than at the end.
 */
export async function scoreContinuations(
  model: LikelihoodModel,
  requests: LikelihoodRequest[],
  signal: AbortSignal,
  report: (done: number) => void = () => undefined,
): Promise<Likelihood[][]> {
  const results: Likelihood[][] = []
  let done = 0
  for (const batch of makeBatches(requests)) {
    signal.throwIfAborted()
    const before = done
    const chosen = batch.map((index) => requests[index] as LikelihoodRequest)
    const likelihoods = await model.logProbabilities(chosen, signal, (count) => report(before + count))
    for (const [place, index] of batch.entries()) results[index] = likelihoods[place] ?? []
    done += batch.length
    report(done)
  }
  return results
}

/** Numbers of the requests that run together. */
function makeBatches(requests: LikelihoodRequest[]): number[][] {
  const lengths = requests.map(lengthOf)
  const prefixes = requests.map(({ prefix }) => prefix.length)
  const order = [...requests.keys()].sort(
    (a, b) => (prefixes[b] ?? 0) - (prefixes[a] ?? 0) || (lengths[b] ?? 0) - (lengths[a] ?? 0) || a - b,
  )
  const batches: number[][] = []
  let batch: number[] = []
  let sequences = 0
  let longest = 0
  for (const index of order) {
    const count = requests[index]?.continuations.length ?? 0
    if (batch.length > 0 && longest * (sequences + count) > tokensPerBatch) {
      batches.push(batch)
      batch = []
      sequences = 0
    }
    longest = batch.length === 0 ? (lengths[index] ?? 0) : Math.max(longest, lengths[index] ?? 0)
    batch.push(index)
    sequences += count
  }
  return batch.length > 0 ? [...batches, batch] : batches
}

function lengthOf({ prefix, continuations }: LikelihoodRequest): number {
  return prefix.length + Math.max(...continuations.map((continuation) => continuation.length))
}

/** Whether the likeliest choice is the right one, as it stands and per character; the first wins a tie. */
export interface Outcome {
  correct: boolean
  correctPerCharacter?: boolean
  subject?: string
}

/** What a question's likelihoods (one per choice) amount to. */
export function judge(question: Question, scores: number[]): Outcome {
  const outcome: Outcome = { correct: indexOfLargest(scores) === question.gold }
  const { lengths, subject } = question
  if (lengths) outcome.correctPerCharacter = indexOfLargest(scores.map((score, choice) => score / (lengths[choice] ?? 1))) === question.gold
  if (subject !== undefined) outcome.subject = subject
  return outcome
}

function indexOfLargest(values: number[]): number {
  return values.reduce((best, value, index) => (value > (values[best] ?? Number.NEGATIVE_INFINITY) ? index : best), 0)
}
