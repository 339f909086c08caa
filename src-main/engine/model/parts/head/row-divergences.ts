import {
  add,
  concat,
  dispose,
  div,
  exp,
  keep,
  log,
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
import { at } from '#contract/at.ts'
import { combine } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { type HeadChunk, headLogits, type Vocabulary } from './embedding-and-head.ts'
import { forEachTile, type HeadPass, logNormalizers } from './token-losses.ts'

/** The dense model's next-token distributions p, one per row, in a form from which divergences are cheap to compute. */
export interface DenseDistribution {
  /** Final hidden states [N, D]. */
  readonly hidden: Tensor2D
  /** The average of the head's rows under p: [N, D]. */
  readonly mean: Tensor2D
  /** The logarithm of the sum of the logits' exponentials: [N]. */
  readonly logNormalizer: Tensor1D
}

/**
 * The Kullback-Leibler divergence of each candidate's next-token distribution from the dense one, for each row, in nats. Candidates are
 * final hidden states [N, D]. For dense logits a = W h and a candidate's logits b = W g, sum(p (a - b)) = (sum of p W) (h - g), so KL =
 * mean (h - g) - log sum exp a + log sum exp b. A candidate costs one product with the head, and the dense model none.
 */
export async function rowDivergences(
  vocabulary: Vocabulary,
  dense: DenseDistribution,
  candidates: readonly Tensor2D[],
  how: HeadPass = {},
): Promise<Float64Array[]> {
  if (vocabulary.capped) return cappedDivergences(vocabulary, dense, candidates, how.signal)
  const normalizers = await logNormalizers(vocabulary, candidates, how)
  const denseNormalizer = dense.logNormalizer.dataSync()
  return candidates.map((candidate, index) => {
    const difference = valuesOf(() => sum(mul(dense.mean, sub(dense.hidden, candidate)), 1))
    return Float64Array.from(difference, (mean, row) => mean - at(denseNormalizer, row) + at(at(normalizers, index), row))
  })
}

/** The same for capped logits. They are not a linear function of the hidden states, so sum p (a - b) is taken over the vocabulary. */
async function cappedDivergences(
  vocabulary: Vocabulary,
  dense: DenseDistribution,
  candidates: readonly Tensor2D[],
  signal: AbortSignal | undefined,
): Promise<Float64Array[]> {
  const normalizers = await logNormalizers(vocabulary, candidates, { signal })
  const denseNormalizer = dense.logNormalizer.dataSync()
  const sums = candidates.map(() => new Float64Array(dense.hidden.shape[0]))
  await vocabulary.forEachHeadChunk((chunk) =>
    forEachTile(dense.hidden, chunk, { signal }, ({ logits, head, firstRow }) => {
      const rows = logits.shape[0]
      const probabilities: Tensor2D = exp(sub(logits, reshape(slice(dense.logNormalizer, [firstRow], [rows]), [rows, 1])))
      for (const [index, candidate] of candidates.entries()) {
        const ofCandidate = headLogits(slice(candidate, [firstRow, 0], [rows, -1]), head)
        valuesOf(() => sum(mul(probabilities, sub(logits, ofCandidate)), 1)).forEach((value, row) => {
          const total = sums[index] as Float64Array
          total[firstRow + row] = at(total, firstRow + row) + value
        })
      }
    }),
  )
  return sums.map((total, index) => total.map((value, row) => value - at(denseNormalizer, row) + at(at(normalizers, index), row)))
}

/** The maximum number of rows for which averages are computed at once. */
const rowsTogether = 2048

/** Computes the distributions of final hidden states [N, D]. The caller disposes of the result's tensors, which include `hidden`. */
export async function denseDistribution(vocabulary: Vocabulary, hidden: Tensor2D, how: HeadPass = {}): Promise<DenseDistribution> {
  const parts: Omit<DenseDistribution, 'hidden'>[] = []
  try {
    for (let first = 0; first < hidden.shape[0]; first += rowsTogether) {
      const rows = tidy(() => slice(hidden, [first, 0], [Math.min(rowsTogether, hidden.shape[0] - first), -1]))
      parts.push(await averageHead(vocabulary, rows, how).finally(() => rows.dispose()))
    }
    const joined = <T extends Tensor1D | Tensor2D>(of: (part: (typeof parts)[number]) => T): T => concat(parts.map(of), 0)
    return { hidden, mean: joined(({ mean }) => mean), logNormalizer: joined(({ logNormalizer }) => logNormalizer) }
  } finally {
    dispose(parts)
  }
}

/** Computes the averages of the head's rows under the distributions of some rows. */
async function averageHead(vocabulary: Vocabulary, rows: Tensor2D, how: HeadPass): Promise<Omit<DenseDistribution, 'hidden'>> {
  const average = new RunningAverage(how)
  try {
    await vocabulary.forEachHeadChunk((chunk) => average.add(rows, chunk))
    return average.finish()
  } finally {
    average.dispose()
  }
}

interface Sums {
  /** The largest logit so far, and the sum of exponentials relative to it: [N, 1] each. */
  readonly top: Tensor2D
  readonly total: Tensor2D
  /** The sum of the head's rows times these exponentials: [N, D]. */
  readonly weighted: Tensor2D
}

/** Averages the head's rows under distributions while going through the head chunk by chunk. */
class RunningAverage {
  readonly #how: HeadPass
  #sums: Sums | undefined

  constructor(how: HeadPass) {
    this.#how = how
  }

  add(rows: Tensor2D, chunk: HeadChunk): Promise<void> {
    return forEachTile(rows, chunk, this.#how, ({ logits, head: { weight } }) => {
      const before = this.#sums
      const highest = max<Tensor2D>(logits, 1, true)
      const top: Tensor2D = before ? maximum(before.top, highest) : highest
      const exponents: Tensor2D = exp(sub(logits, top))
      const total = sum<Tensor2D>(exponents, 1, true)
      const weighted = combine(exponents, weight, this.#how.products)
      const rescale = before && exp<Tensor2D>(sub(before.top, top))
      const carried = (sums: Tensor2D | undefined, more: Tensor2D): Tensor2D => (sums && rescale ? add(mul(sums, rescale), more) : more)
      this.#sums = {
        top: keep(top),
        total: keep(carried(before?.total, total)),
        weighted: keep(carried(before?.weighted, weighted)),
      }
      if (before) disposeSums(before)
    })
  }

  finish(): { mean: Tensor2D; logNormalizer: Tensor1D } {
    const sums = this.#sums as Sums
    return tidy(() => ({
      mean: div<Tensor2D>(sums.weighted, sums.total),
      logNormalizer: sum<Tensor1D>(add(sums.top, log(sums.total)), 1),
    }))
  }

  dispose(): void {
    if (this.#sums) disposeSums(this.#sums)
  }
}

function disposeSums({ top, total, weighted }: Sums): void {
  for (const tensor of [top, total, weighted]) tensor.dispose()
}
