import { add, argMax, exp, gather, max, mul, slice, sub, sum, type Tensor1D, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { project } from '#engine/tensor/products.ts'
import type { HeadChunk, Vocabulary } from './vocabulary.ts'

/** Logits per product: rows times vocabulary entries that are in memory at once. */
const logitsPerProduct = 2 ** 23

/** Per row: the target's logit, and the log of the sum of exponents over the vocabulary seen so far. */
interface RowSums {
  readonly target: Float64Array
  readonly logSum: Float64Array
}

/** Rows of a product with the head so that its logits stay within `logitsPerProduct`. */
export function rowsPerHeadProduct(vocabulary: Vocabulary): number {
  return Math.max(1, Math.floor(logitsPerProduct / vocabulary.chunkRows))
}

/**
 * Negative log-likelihood of each target under its row of final hidden states: hidden [N, D], targets [N], result [N] in nats.
 * Rows go through the head in chunks, so no [N, V] matrix exists; sums are kept in float64.
 */
export async function tokenLosses(vocabulary: Vocabulary, hidden: Tensor2D, targets: Int32Array): Promise<Float64Array> {
  const rows = targets.length
  const sums: RowSums = { target: new Float64Array(rows), logSum: new Float64Array(rows).fill(Number.NEGATIVE_INFINITY) }
  const step = rowsPerHeadProduct(vocabulary)
  await vocabulary.forEachHeadChunk((chunk) => {
    for (let first = 0; first < rows; first += step) addChunk(sums, hidden, targets, chunk, first, Math.min(step, rows - first))
  })
  return sums.logSum.map((logSum, row) => logSum - (sums.target[row] ?? 0))
}

/** Whether each target is the likeliest token of its row: hidden [N, D], targets [N]; the lower id wins a tie. */
export async function areLikeliest(vocabulary: Vocabulary, hidden: Tensor2D, targets: Int32Array): Promise<boolean[]> {
  const rows = targets.length
  const best = new Float64Array(rows).fill(Number.NEGATIVE_INFINITY)
  const bestId = new Int32Array(rows)
  const step = rowsPerHeadProduct(vocabulary)
  await vocabulary.forEachHeadChunk((chunk) => {
    for (let first = 0; first < rows; first += step) {
      const [values, ids] = tidy(() => {
        const logits = project(slice(hidden, [first, 0], [Math.min(step, rows - first), -1]), chunk.weight, chunk.bias)
        return [max(logits, 1).dataSync(), argMax(logits, 1).dataSync()]
      })
      values.forEach((value, row) => {
        if (value <= (best[first + row] ?? 0)) return
        best[first + row] = value
        bestId[first + row] = chunk.first + (ids[row] ?? 0)
      })
    }
  })
  return Array.from(targets, (id, row) => bestId[row] === id)
}

function addChunk(sums: RowSums, hidden: Tensor2D, targets: Int32Array, chunk: HeadChunk, first: number, count: number): void {
  const size = chunk.weight.shape[0]
  const local = targets.subarray(first, first + count).map((id) => id - chunk.first)
  const part: Tensor2D = slice(hidden, [first, 0], [count, -1])
  const logits = project(part, chunk.weight, chunk.bias)
  const logSums = logSumExponents(logits)
  logits.dispose()
  const own = tidy(() => {
    const inside = tensor1d(local.map((id) => Math.min(size - 1, Math.max(0, id))), 'int32')
    const targetRows: Tensor2D = gather(chunk.weight, inside)
    let targetLogits: Tensor1D = sum(mul(part, targetRows), 1)
    if (chunk.bias) targetLogits = add(targetLogits, gather(chunk.bias, inside))
    return targetLogits.dataSync()
  })
  part.dispose()
  for (let row = 0; row < count; row++) {
    const id = local[row] ?? -1
    if (id >= 0 && id < size) sums.target[first + row] = own[row] ?? 0
    sums.logSum[first + row] = addLogs(sums.logSum[first + row] ?? Number.NEGATIVE_INFINITY, logSums[row] ?? Number.NaN)
  }
}

/** log(sum(exp(row))) of each row of logits [N, V]; the maximum is only subtracted when the plain sum overflows or vanishes. */
export function logSumExponents(logits: Tensor2D): Float64Array {
  const plain = tidy(() => sum(exp(logits), 1).dataSync())
  if (plain.every((value) => value > 1e-30 && value < 1e38)) return Float64Array.from(plain, Math.log)
  const [top, rest] = tidy(() => {
    const highest = max<Tensor2D>(logits, 1, true)
    return [highest.dataSync(), sum(exp(sub(logits, highest)), 1).dataSync()] as const
  })
  return Float64Array.from(top, (value, row) => value + Math.log(rest[row] ?? Number.NaN))
}

/** log(exp(a) + exp(b)) without overflow. */
export function addLogs(a: number, b: number): number {
  if (a === Number.NEGATIVE_INFINITY) return b
  const high = Math.max(a, b)
  return high + Math.log(Math.exp(a - high) + Math.exp(b - high))
}
