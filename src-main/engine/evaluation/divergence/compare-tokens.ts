import { concat, exp, gatherND, mul, slice, sub, sum, type Tensor2D, tensor2d, tidy, topk } from '@tensorflow/tfjs-core'
import { requireFinite } from '#engine/model/finite.ts'
import { logSumExponents } from '#engine/model/likelihood.ts'
import { headLogits, type Vocabulary } from '#engine/model/vocabulary.ts'
import { valuesOf } from '#engine/tensor/read.ts'

/** Logits of one model that are in memory at once. */
const logitsPerTile = 2 ** 23

/** The likeliest tokens that are kept of each distribution. */
export const alternatives = 5

/** One model's answer for N tokens: losses in nats, the likeliest tokens [N, alternatives] with their probabilities. */
export interface TokenScores {
  readonly loss: Float64Array
  readonly top: Int32Array
  readonly probability: Float64Array
}

/** The same of a pruned model, with its divergence from the dense one in nats, and the change in the probability of the text's token. */
export interface ComparedScores extends TokenScores {
  readonly divergence: Float64Array
  readonly change: Float64Array
}

/** Final hidden states [N, D] and the vocabulary that makes logits of them. */
export interface Predictions {
  readonly vocabulary: Vocabulary
  readonly hidden: Tensor2D
}

/**
 * Compares next-token distributions row by row: targets [N]. Logits exist for a few rows of two models at a time. The divergence is
 * sum p (a - b) + log sum exp b - log sum exp a over logits a of the dense model and b of the other, p the dense distribution.
 */
export async function compareTokens(
  dense: Predictions,
  subjects: readonly Predictions[],
  targets: Int32Array,
  signal: AbortSignal,
): Promise<{ dense: TokenScores; subjects: ComparedScores[]; alternatives: number }> {
  const rows = targets.length
  const most = Math.min(alternatives, dense.vocabulary.size)
  const scores = makeScores(rows, most)
  const compared = subjects.map(() => ({ ...makeScores(rows, most), divergence: new Float64Array(rows), change: new Float64Array(rows) }))
  const tile = Math.max(1, Math.floor(logitsPerTile / dense.vocabulary.size))
  for (let first = 0; first < rows; first += tile) {
    signal.throwIfAborted()
    const own = targets.subarray(first, first + tile)
    const logits = await logitsOf(dense, first, own.length)
    const normalizers = fill(scores, logits, own, { first, most })
    const probabilities: Tensor2D = tidy(() => exp(sub(logits, tensor2d(Float32Array.from(normalizers), [own.length, 1]))))
    for (const [index, subject] of subjects.entries()) {
      const others = await logitsOf(subject, first, own.length)
      const into = compared[index] as (typeof compared)[number]
      const normalizersOfOther = fill(into, others, own, { first, most })
      const shifts = valuesOf(() => sum(mul(probabilities, sub(logits, others)), 1))
      others.dispose()
      for (let row = 0; row < own.length; row++) {
        const divergence = (shifts[row] ?? 0) + (normalizersOfOther[row] ?? 0) - (normalizers[row] ?? 0)
        // Gibbs' inequality: what is below zero is rounding.
        into.divergence[first + row] = Math.max(0, divergence)
        into.change[first + row] = Math.exp(-(into.loss[first + row] ?? 0)) - Math.exp(-(scores.loss[first + row] ?? 0))
      }
    }
    probabilities.dispose()
    logits.dispose()
  }
  requireFinite(scores.loss, 'The likelihood of the text under the dense model')
  for (const one of compared) requireFinite(one.divergence, 'The divergence from the dense model')
  return { dense: scores, subjects: compared, alternatives: most }
}

function makeScores(rows: number, most: number): TokenScores {
  return { loss: new Float64Array(rows), top: new Int32Array(rows * most), probability: new Float64Array(rows * most) }
}

/** Writes what logits [n, V] say of their rows; gives the logs of their sums of exponents. */
function fill(into: TokenScores, logits: Tensor2D, targets: Int32Array, { first, most }: { first: number; most: number }): Float64Array {
  const normalizers = logSumExponents(logits)
  const places = Int32Array.from({ length: 2 * targets.length }, (_, i) => (i % 2 === 0 ? i / 2 : (targets[(i - 1) / 2] ?? 0)))
  const own = valuesOf(() => gatherND(logits, tensor2d(places, [targets.length, 2], 'int32')))
  const { values, indices } = topk(logits, most)
  const likeliest = indices.dataSync()
  const highest = values.dataSync()
  values.dispose()
  indices.dispose()
  targets.forEach((_, row) => {
    into.loss[first + row] = (normalizers[row] ?? 0) - (own[row] ?? 0)
    for (let place = 0; place < most; place++) {
      const to = (first + row) * most + place
      into.top[to] = likeliest[row * most + place] ?? 0
      into.probability[to] = Math.exp((highest[row * most + place] ?? 0) - (normalizers[row] ?? 0))
    }
  })
  return normalizers
}

/** Logits [count, V] of some rows, over the whole vocabulary. */
async function logitsOf({ vocabulary, hidden }: Predictions, first: number, count: number): Promise<Tensor2D> {
  const rows: Tensor2D = tidy(() => slice(hidden, [first, 0], [count, -1]))
  const pieces: Tensor2D[] = []
  await vocabulary.forEachHeadChunk((chunk) => void pieces.push(headLogits(rows, chunk)))
  rows.dispose()
  const [only] = pieces
  if (only && pieces.length === 1) return only
  const joined = concat(pieces, 1)
  for (const piece of pieces) piece.dispose()
  return joined
}
