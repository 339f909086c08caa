import { areLikeliest, tokenLosses } from '#engine/model/likelihood.ts'
import { DecodingSession } from '#engine/model/session.ts'
import type { ModelView } from '#engine/model/view.ts'
import { logProbabilities, topIndices } from './generation/probabilities.ts'
import type { Likelihood, LikelihoodModel, LikelihoodRequest } from './tasks/likelihood-model.ts'

/** Tokens per batch of prefixes: larger products are no faster. */
const tokensPerBatch = 2048

/** One continuation on its way: whose it is, and what comes after its first token. */
interface Pending {
  readonly request: number
  readonly continuation: number
  /** Its prefix's place in the batch. */
  readonly sequence: number
  readonly ids: Int32Array
}

/** Scores continuations on a view: a prefix is run once, its keys and values serve all continuations, equal lengths run as a batch. */
export function likelihoodOf(view: ModelView): LikelihoodModel {
  return {
    contextLength: view.spec.contextLength,
    async logProbabilities(requests, signal, report) {
      const results = requests.map((request) => request.continuations.map((): Likelihood => ({ logProbability: 0, greedy: true })))
      let done = 0
      for (const batch of batchByLength(requests)) {
        signal.throwIfAborted()
        await scoreBatch(view, requests, batch, results, signal)
        done += batch.length
        report(done)
      }
      return results
    },
  }
}

/** Requests whose prefixes have one length, up to `tokensPerBatch` tokens a batch. */
function batchByLength(requests: readonly LikelihoodRequest[]): number[][] {
  const byLength = Map.groupBy(requests.keys(), (index) => requests[index]?.prefix.length ?? 0)
  return [...byLength].flatMap(([length, indices]) => {
    const size = Math.max(1, Math.floor(tokensPerBatch / length))
    return Array.from({ length: Math.ceil(indices.length / size) }, (_, i) => indices.slice(i * size, (i + 1) * size))
  })
}

async function scoreBatch(
  view: ModelView,
  requests: readonly LikelihoodRequest[],
  batch: number[],
  results: Likelihood[][],
  signal: AbortSignal,
): Promise<void> {
  const session = new DecodingSession(view)
  try {
    const prefixes = concatenate(batch.map((index) => requests[index]?.prefix ?? new Int32Array()))
    const logits = await session.feed(prefixes, batch.length, signal)
    const pending: Pending[] = []
    batch.forEach((request, sequence) => {
      const scores = logProbabilities(logits[sequence] as Float32Array)
      const [likeliest] = topIndices(scores, 1)
      requests[request]?.continuations.forEach((ids, continuation) => {
        const first = ids[0] ?? -1
        add(results, request, continuation, scores[first] ?? Number.NEGATIVE_INFINITY, first === likeliest)
        if (ids.length > 1) pending.push({ request, continuation, sequence, ids })
      })
    })
    for (const [length, group] of Map.groupBy(pending, ({ ids }) => ids.length))
      await scoreRest(view, session, group, length, results, signal)
  } finally {
    session.dispose()
  }
}

/** Tokens after the first of continuations of one length. */
async function scoreRest(
  view: ModelView,
  session: DecodingSession,
  group: Pending[],
  length: number,
  results: Likelihood[][],
  signal: AbortSignal,
): Promise<void> {
  const fork = session.fork(group.map(({ sequence }) => sequence))
  try {
    const hidden = await fork.feedHidden(concatenate(group.map(({ ids }) => ids.subarray(0, length - 1))), group.length, signal)
    const targets = concatenate(group.map(({ ids }) => ids.subarray(1)))
    const losses = await tokenLosses(view.model.vocabulary, hidden, targets)
    const likeliest = await areLikeliest(view.model.vocabulary, hidden, targets)
    hidden.dispose()
    group.forEach(({ request, continuation }, i) => {
      for (let token = i * (length - 1); token < (i + 1) * (length - 1); token++)
        add(results, request, continuation, -(losses[token] ?? Number.NaN), likeliest[token] === true)
    })
  } finally {
    fork.dispose()
  }
}

function add(results: Likelihood[][], request: number, continuation: number, logProbability: number, greedy: boolean): void {
  const result = results[request]?.[continuation]
  if (!result) return
  result.logProbability += logProbability
  result.greedy &&= greedy
}

function concatenate(arrays: readonly Int32Array[]): Int32Array {
  const joined = new Int32Array(arrays.reduce((length, array) => length + array.length, 0))
  let offset = 0
  for (const array of arrays) {
    joined.set(array, offset)
    offset += array.length
  }
  return joined
}
