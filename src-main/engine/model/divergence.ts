import {
  add,
  concat,
  div,
  exp,
  keep,
  log,
  matMul,
  max,
  maximum,
  mul,
  reshape,
  slice,
  sub,
  sum,
  type Tensor1D,
  type Tensor2D,
  tidy,
} from '@tensorflow/tfjs-core'
import type { Products } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/read.ts'
import { forEachTile, logNormalizers } from './likelihood.ts'
import { type HeadChunk, headLogits, type Vocabulary } from './vocabulary.ts'

/** The dense model's next-token distributions p, one per row, as far as divergence from them needs them. */
export interface DenseDistribution {
  /** Final hidden states [N, D]. */
  readonly hidden: Tensor2D
  /** Rows of the head averaged under p: [N, D]. */
  readonly mean: Tensor2D
  /** Log of the sum of exponents of the logits: [N]. */
  readonly logNormalizer: Tensor1D
}

/**
 * Kullback-Leibler divergence of each candidate's next-token distribution from the dense one, row by row in nats; candidates are
 * final hidden states [N, D]. With logits a = W h and b = W g, sum(p (a - b)) = (sum of p W) (h - g), so that
 * KL = mean (h - g) - log sum exp a + log sum exp b: a candidate costs one product with the head, the dense model none.
 */
export async function rowDivergences(
  vocabulary: Vocabulary,
  dense: DenseDistribution,
  candidates: readonly Tensor2D[],
  products: Products = 'float32',
): Promise<Float64Array[]> {
  if (vocabulary.capped) return cappedDivergences(vocabulary, dense, candidates)
  const normalizers = await logNormalizers(vocabulary, candidates, products)
  const denseNormalizer = dense.logNormalizer.dataSync()
  return candidates.map((candidate, index) => {
    const difference = valuesOf(() => sum(mul(dense.mean, sub(dense.hidden, candidate)), 1))
    return Float64Array.from(difference, (mean, row) => mean - (denseNormalizer[row] ?? 0) + (normalizers[index]?.[row] ?? 0))
  })
}

/** The same where logits are capped, and so no product of the hidden states: sum p (a - b) goes over the vocabulary. */
async function cappedDivergences(
  vocabulary: Vocabulary,
  dense: DenseDistribution,
  candidates: readonly Tensor2D[],
): Promise<Float64Array[]> {
  const normalizers = await logNormalizers(vocabulary, candidates)
  const denseNormalizer = dense.logNormalizer.dataSync()
  const sums = candidates.map(() => new Float64Array(dense.hidden.shape[0]))
  await vocabulary.forEachHeadChunk((chunk) => {
    forEachTile(dense.hidden, chunk, ({ logits, head, firstRow }) => {
      const rows = logits.shape[0]
      const probabilities: Tensor2D = exp(sub(logits, reshape(slice(dense.logNormalizer, [firstRow], [rows]), [rows, 1])))
      for (const [index, candidate] of candidates.entries()) {
        const own = headLogits(slice(candidate, [firstRow, 0], [rows, -1]), head)
        valuesOf(() => sum(mul(probabilities, sub(logits, own)), 1)).forEach((value, row) => {
          const total = sums[index] as Float64Array
          total[firstRow + row] = (total[firstRow + row] ?? 0) + value
        })
      }
    })
  })
  return sums.map((own, index) => own.map((value, row) => value - (denseNormalizer[row] ?? 0) + (normalizers[index]?.[row] ?? 0)))
}

/** Rows that are averaged at once. */
const rowsTogether = 2048

/** The distributions that final hidden states [N, D] stand for. The caller disposes of them, `hidden` included. */
export async function denseDistribution(vocabulary: Vocabulary, hidden: Tensor2D): Promise<DenseDistribution> {
  const means: Tensor2D[] = []
  const normalizers: Tensor1D[] = []
  for (let first = 0; first < hidden.shape[0]; first += rowsTogether) {
    const rows = tidy(() => slice(hidden, [first, 0], [Math.min(rowsTogether, hidden.shape[0] - first), -1]))
    const average = new RunningAverage()
    await vocabulary.forEachHeadChunk((chunk) => average.add(rows, chunk))
    const { mean, logNormalizer } = average.finish()
    means.push(mean)
    normalizers.push(logNormalizer)
    rows.dispose()
  }
  const joined = tidy(() => ({ mean: concat(means, 0), logNormalizer: concat(normalizers, 0) }))
  for (const tensor of [...means, ...normalizers]) tensor.dispose()
  return { hidden, ...joined }
}

interface Sums {
  /** The greatest logit so far, and the sum of exponents relative to it: [N, 1] each. */
  readonly top: Tensor2D
  readonly total: Tensor2D
  /** Rows of the head times exponents: [N, D]. */
  readonly weighted: Tensor2D
}

class RunningAverage {
  #sums: Sums | undefined

  add(rows: Tensor2D, chunk: HeadChunk): void {
    forEachTile(rows, chunk, ({ logits, head: { weight } }) => {
      const before = this.#sums
      const highest = max<Tensor2D>(logits, 1, true)
      const top: Tensor2D = before ? maximum(before.top, highest) : highest
      const exponents: Tensor2D = exp(sub(logits, top))
      const total = sum<Tensor2D>(exponents, 1, true)
      const weighted = matMul(exponents, weight)
      const rescale = before && exp<Tensor2D>(sub(before.top, top))
      const carried = (sums: Tensor2D | undefined, more: Tensor2D): Tensor2D => (sums && rescale ? add(mul(sums, rescale), more) : more)
      this.#sums = {
        top: keep(top),
        total: keep(carried(before?.total, total)),
        weighted: keep(carried(before?.weighted, weighted as Tensor2D)),
      }
      if (before) disposeSums(before)
    })
  }

  finish(): { mean: Tensor2D; logNormalizer: Tensor1D } {
    const sums = this.#sums as Sums
    const result = tidy(() => ({
      mean: div<Tensor2D>(sums.weighted, sums.total),
      logNormalizer: sum<Tensor1D>(add(sums.top, log(sums.total)), 1),
    }))
    disposeSums(sums)
    return result
  }
}

function disposeSums({ top, total, weighted }: Sums): void {
  for (const tensor of [top, total, weighted]) tensor.dispose()
}
