import { div, exp, max, mul, slice, sub, sum, type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { project } from '#engine/tensor/products.ts'
import { addLogs, logSumExponents, rowsPerHeadProduct } from './likelihood.ts'
import type { HeadChunk, Vocabulary } from './vocabulary.ts'

/** Running sums of one row over the vocabulary: the dense distribution's normaliser, and its mean logit difference to the candidate. */
class RowSums {
  readonly denseLog: Float64Array
  readonly ownLog: Float64Array
  readonly difference: Float64Array

  constructor(rows: number) {
    this.denseLog = new Float64Array(rows).fill(Number.NEGATIVE_INFINITY)
    this.ownLog = new Float64Array(rows).fill(Number.NEGATIVE_INFINITY)
    this.difference = new Float64Array(rows)
  }
}

/**
 * Kullback-Leibler divergence of each candidate's next-token distribution from the dense one, row by row in nats:
 * dense [N, D] and candidates [N, D] are final hidden states. With p the dense distribution and a, b the logits,
 * KL = sum(p (a - b)) - log sum exp a + log sum exp b; the dense logits of a chunk serve all candidates.
 */
export async function rowDivergences(vocabulary: Vocabulary, dense: Tensor2D, candidates: readonly Tensor2D[]): Promise<Float64Array[]> {
  const rows = dense.shape[0]
  const sums = candidates.map(() => new RowSums(rows))
  const step = rowsPerHeadProduct(vocabulary)
  await vocabulary.forEachHeadChunk((chunk) => {
    for (let first = 0; first < rows; first += step) addChunk(sums, dense, candidates, chunk, first, Math.min(step, rows - first))
  })
  return sums.map(({ denseLog, ownLog, difference }) => difference.map((mean, row) => mean - (denseLog[row] ?? 0) + (ownLog[row] ?? 0)))
}

function addChunk(sums: RowSums[], dense: Tensor2D, candidates: readonly Tensor2D[], chunk: HeadChunk, first: number, count: number): void {
  tidy(() => {
    const logits = (hidden: Tensor2D) => project(slice(hidden, [first, 0], [count, -1]), chunk.weight, chunk.bias)
    const a = logits(dense)
    const top = max<Tensor2D>(a, 1, true)
    const weights: Tensor2D = exp(sub(a, top))
    const total = sum<Tensor1D>(weights, 1)
    const denseLog = Float64Array.from(total.dataSync(), Math.log)
    const tops = top.dataSync()
    candidates.forEach((candidate, index) => {
      const own = sums[index] as RowSums
      const b = logits(candidate)
      const ownLog = logSumExponents(b)
      const difference = tidy(() => div(sum(mul(weights, sub(a, b)), 1), total).dataSync())
      b.dispose()
      for (let row = 0; row < count; row++) merge(own, first + row, (denseLog[row] ?? 0) + (tops[row] ?? 0), ownLog[row] ?? 0, difference[row] ?? 0)
    })
  })
}

/** Adds a chunk of the vocabulary to a row: normalisers in log space, the mean difference weighted by the chunk's share of p. */
function merge(sums: RowSums, row: number, denseLog: number, ownLog: number, difference: number): void {
  const before = sums.denseLog[row] ?? Number.NEGATIVE_INFINITY
  const after = addLogs(before, denseLog)
  sums.difference[row] = (sums.difference[row] ?? 0) * Math.exp(before - after) + difference * Math.exp(denseLog - after)
  sums.denseLog[row] = after
  sums.ownLog[row] = addLogs(sums.ownLog[row] ?? Number.NEGATIVE_INFINITY, ownLog)
}
