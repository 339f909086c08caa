import { matMul, slice, type Tensor2D } from '@tensorflow/tfjs-core'
import { outside } from '#contract/at.ts'
import { valuesOf } from '#engine/tensor/read.ts'

/**
 * Up to this many columns, we compute products in float64 here. Above, the runtime's products of few rows are exact enough and far faster.
 */
const ownUpTo = 256
const rowsPerProduct = 256

/** Adds x'x to `sums` [D, D], for x [rows, D]. */
export function addOuterProducts(sums: Float64Array, x: Tensor2D, size: number): void {
  if (size <= ownUpTo) {
    addOwn(sums, x.dataSync() as Float32Array, size)
    return
  }
  const rows = x.shape[0]
  for (let first = 0; first < rows; first += rowsPerProduct) {
    const product = valuesOf(() => {
      const part: Tensor2D = slice(x, [first, 0], [Math.min(rowsPerProduct, rows - first), -1])
      return matMul(part, part, true, false)
    })
    for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] ?? outside(sums, i)) + (product[i] ?? outside(product, i))
  }
}

function addOwn(sums: Float64Array, x: Float32Array, size: number): void {
  for (let start = 0; start < x.length; start += size) {
    for (let i = 0; i < size; i++) {
      const own = x[start + i] ?? outside(x, start + i)
      for (let j = 0; j <= i; j++)
        sums[i * size + j] = (sums[i * size + j] ?? outside(sums, i * size + j)) + own * (x[start + j] ?? outside(x, start + j))
    }
  }
  for (let i = 0; i < size; i++) for (let j = 0; j < i; j++) sums[j * size + i] = sums[i * size + j] ?? outside(sums, i * size + j)
}
