import { concat, gather, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { tokenLosses } from '#engine/model/likelihood.ts'
import { DecodingSession } from '#engine/model/session.ts'
import type { ModelView } from '#engine/model/view.ts'
import type { LikelihoodModel, LikelihoodRequest } from './tasks/likelihood-model.ts'

/** One continuation: whose it is, its prefix's place in the batch, its ids. */
interface Continuation {
  readonly request: number
  readonly place: number
  readonly ids: Int32Array
}

/** Rows that predict tokens: final hidden states [N, D], the N tokens, and the continuation that each belongs to. */
interface Predictions {
  readonly hidden: Tensor2D
  readonly targets: readonly number[]
  readonly owners: readonly Continuation[]
}

/** Scores continuations on a view: a prefix is run once, its keys and values serve all continuations, and the head runs once for all tokens. */
export function likelihoodOf(view: ModelView): LikelihoodModel {
  return {
    contextLength: view.spec.contextLength,
    async logProbabilities(requests, signal) {
      const predictions = await predict(view, requests, signal)
      const hidden = tidy(() => concat(predictions.map((one) => one.hidden)))
      for (const one of predictions) one.hidden.dispose()
      const losses = await tokenLosses(view.model.vocabulary, hidden, Int32Array.from(predictions.flatMap(({ targets }) => targets)))
      hidden.dispose()
      const sums = requests.map(({ continuations }) => continuations.map(() => 0))
      for (const [row, { request, place }] of predictions.flatMap(({ owners }) => owners).entries()) {
        const own = sums[request] as number[]
        own[place] = (own[place] as number) - (losses[row] as number)
      }
      return sums
    },
  }
}

/** The rows that predict every token of every continuation: the end of its prefix, then its own tokens but the last. */
async function predict(view: ModelView, requests: readonly LikelihoodRequest[], signal: AbortSignal): Promise<Predictions[]> {
  const all = requests.flatMap(({ continuations }, request) => continuations.map((ids, place): Continuation => ({ request, place, ids })))
  const session = new DecodingSession(view)
  const predictions: Predictions[] = []
  try {
    const ends = await session.feedLast(concatenate(requests.map(({ prefix }) => prefix)), requests.length, signal)
    predictions.push({
      hidden: takeRows(
        ends,
        all.map(({ request }) => request),
      ),
      targets: all.map(({ ids }) => ids[0] as number),
      owners: all,
    })
    ends.dispose()
    const longer = all.filter(({ ids }) => ids.length > 1)
    for (const group of Map.groupBy(longer, ({ ids }) => ids.length).values()) predictions.push(await predictRest(session, group, signal))
    return predictions
  } catch (error) {
    for (const { hidden } of predictions) hidden.dispose()
    throw error
  } finally {
    session.dispose()
  }
}

/** Tokens after the first, of continuations of one length. */
async function predictRest(session: DecodingSession, group: readonly Continuation[], signal: AbortSignal): Promise<Predictions> {
  const fork = session.fork(group.map(({ request }) => request))
  try {
    const hidden = await fork.feedHidden(concatenate(group.map(({ ids }) => ids.subarray(0, -1))), group.length, signal)
    const rest = group.flatMap((owner) => [...owner.ids.subarray(1)].map((target) => ({ target, owner })))
    return { hidden, targets: rest.map(({ target }) => target), owners: rest.map(({ owner }) => owner) }
  } finally {
    fork.dispose()
  }
}

function takeRows(x: Tensor2D, rows: readonly number[]): Tensor2D {
  return tidy(() => gather(x, tensor1d([...rows], 'int32')))
}

function concatenate(arrays: readonly Int32Array[]): Int32Array {
  return Int32Array.from(arrays.flatMap((array) => [...array]))
}
