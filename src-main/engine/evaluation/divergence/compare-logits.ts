import { div, exp, mul, sub, sum, type Tensor2D, tensor2d, topk } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { logSumExponents } from '#engine/model/likelihood.ts'
import { valuesOf } from '#engine/tensor/column-sums.ts'

/** A comparison of a model's logits [N, C] with the dense model's, over some entries of the vocabulary. */
export interface ComparedLogits {
  /** Logs of the sums of exponents, [N] each. */
  readonly denseLog: ArrayLike<number>
  readonly ownLog: ArrayLike<number>
  /** Mean difference of the logits (dense minus own), weighted by the dense distribution over these entries, [N]. */
  readonly shift: ArrayLike<number>
  /** The model's largest logits [N, count] and their columns; ties go to the lower column. */
  readonly count: number
  readonly highest: ArrayLike<number>
  readonly columns: ArrayLike<number>
}

/**
 * Compares logits [N, C] row by row, and finds up to `most` of the largest in each row. For the dense model itself, pass the same tensor
 * twice.
 */
export function compareLogits(dense: Tensor2D, own: Tensor2D, most: number): ComparedLogits {
  const compare = activeBackend().fused?.compareLogits
  const [rows, entries] = own.shape
  const count = Math.min(most, entries)
  if (!compare) return compareStepByStep(dense, own, count)
  const values = valuesOf(() => compare(dense, own, count))
  const width = 5 + 2 * count
  const column = (place: number) => Float64Array.from({ length: rows }, (_, row) => at(values, row * width + place))
  const log = (largest: Float64Array, total: Float64Array) => largest.map((value, row) => value + Math.log(at(total, row)))
  const list = (from: number) =>
    Float32Array.from({ length: rows * count }, (_, i) => at(values, Math.floor(i / count) * width + from + (i % count)))
  return {
    denseLog: log(column(0), column(1)),
    ownLog: log(column(2), column(3)),
    shift: column(4),
    count,
    highest: list(5),
    columns: list(5 + count),
  }
}

/** Does the same with the runtime's own operations. */
function compareStepByStep(dense: Tensor2D, own: Tensor2D, count: number): ComparedLogits {
  const { values, indices } = topk(own, count)
  const denseLog = logSumExponents(dense)
  const shift = valuesOf(() => {
    const weights = exp(sub(dense, tensor2d(Float32Array.from(denseLog), [dense.shape[0], 1])))
    return div(sum(mul(weights, sub(dense, own)), 1), sum(weights, 1))
  })
  const found = { denseLog, ownLog: logSumExponents(own), shift, count, highest: values.dataSync(), columns: indices.dataSync() }
  values.dispose()
  indices.dispose()
  return found
}
