import { gather, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { type Branch, DecodingSession } from '#engine/model/decoding/session.ts'
import { tokenLosses } from '#engine/model/parts/head/token-losses.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { LikelihoodModel, LikelihoodRequest } from './tasks/score.ts'

/** A prediction of one token: the row that predicts it, and the request and continuation that it belongs to. */
interface Prediction {
  readonly row: number
  readonly target: number
  readonly request: number
  readonly place: number
}

/**
 * Scores continuations on a view. Prefixes and continuations of all requests go through the parts in one pass. Shared beginnings are
 * computed once, and the head runs once for all rows that predict a token. The caller must call `dispose`, because a session is kept
 * between calls.
 */
export function likelihoodOf(view: ModelView): LikelihoodModel & { dispose(): void } {
  const products = view.model.products.passes
  const session = new DecodingSession(view, { products })
  return {
    contextLength: view.spec.contextLength,
    async logProbabilities(requests, signal) {
      const { lines, predictions } = layOut(requests, view.spec.delta === undefined)
      const all = await session.hiddenOfBranches(lines, signal)
      const hidden = takeRows(
        all,
        predictions.map(({ row }) => row),
      )
      all.dispose()
      const targets = Int32Array.from(predictions, ({ target }) => target)
      const losses = await tokenLosses(view.model.vocabulary, hidden, targets, { products })
      hidden.dispose()
      const sums = requests.map(({ continuations }) => continuations.map(() => 0))
      for (const [index, { request, place }] of predictions.entries()) {
        const own = sums[request] as number[]
        own[place] = (own[place] as number) - (losses[index] as number)
      }
      return sums
    },
    dispose: () => session.dispose(),
  }
}

/** A prefix that was laid out: its tokens, its line, and the row of its last token. */
interface Laid {
  readonly prefix: Int32Array
  readonly line: number
  /** The row of its last token. */
  readonly last: number
}

/**
 * Lays out the tokens to compute as branches. First come the prefixes, sorted by their tokens; each branches off where it differs from the
 * prefix before it. Then come the continuations, without their last tokens.
 */
function layOut(requests: readonly LikelihoodRequest[], shares: boolean): { lines: Branch[]; predictions: Prediction[] } {
  const lines: Branch[] = []
  const laid: Laid[] = []
  let rows = 0
  const add = (branch: Branch): number => {
    rows += branch.ids.length
    return lines.push(branch) - 1
  }
  let before: Laid | undefined
  for (const index of [...requests.keys()].sort((a, b) => compareTokens(prefixOf(requests, a), prefixOf(requests, b)))) {
    const prefix = prefixOf(requests, index)
    const common = before ? commonStart(before.prefix, prefix) : 0
    if (before && common === prefix.length && before.prefix.length === common) {
      laid[index] = before
      continue
    }
    // The last token of a prefix is always computed, because its row predicts the next token.
    const after = shares && before ? Math.min(common, prefix.length - 1) : 0
    const line = add({ from: before?.line ?? 0, after, ids: prefix.subarray(after) })
    before = { prefix, line, last: rows - 1 }
    laid[index] = before
  }
  const predictions: Prediction[] = []
  for (const [request, { continuations }] of requests.entries()) {
    const { prefix, line, last } = laid[request] as Laid
    for (const [place, ids] of continuations.entries()) {
      predictions.push({ row: last, target: ids[0] as number, request, place })
      if (ids.length === 1) continue
      const first = rows
      add({ from: line, after: prefix.length, ids: ids.subarray(0, -1) })
      for (const [at, target] of ids.subarray(1).entries()) predictions.push({ row: first + at, target, request, place })
    }
  }
  return { lines, predictions }
}

const prefixOf = (requests: readonly LikelihoodRequest[], index: number): Int32Array => (requests[index] as LikelihoodRequest).prefix

function commonStart(a: Int32Array, b: Int32Array): number {
  let length = 0
  while (length < a.length && length < b.length && a[length] === b[length]) length++
  return length
}

function compareTokens(a: Int32Array, b: Int32Array): number {
  const common = commonStart(a, b)
  return common === Math.min(a.length, b.length) ? a.length - b.length : (a[common] as number) - (b[common] as number)
}

function takeRows(x: Tensor2D, rows: readonly number[]): Tensor2D {
  return tidy(() => gather(x, tensor1d([...rows], 'int32')))
}
