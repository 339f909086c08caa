import { matMul, slice, type Tensor2D } from '@tensorflow/tfjs-core'
import { outside } from '#contract/at.ts'
import { valuesOf } from '#engine/tensor/read.ts'

/**
 * Up to this many columns, sums of products are computed in float64. Above it that is many times slower, so products of a few rows are
 * computed in float32 and then added to the sums. They are as exact as the activations, which are float32 themselves.
 */
export const doubleUpTo = 256
/** Rows of a product in the runtime. */
const rowsPerProduct = 256

/** Adds x'x to `sums` [D, D], for x [rows, D]. */
export function addOuterProducts(sums: Float64Array, x: Tensor2D, size: number): void {
  if (size <= doubleUpTo) addDoubles(sums, x.dataSync() as Float32Array, size)
  else addProducts(sums, x, x, rowsPerProduct)
}

/**
 * Adds x'z to `sums` [R, C], for x [rows, R] and z [rows, C]. Products of `rowsAtOnce` rows are computed in float32 and summed in float64.
 */
export function addProducts(sums: Float64Array, x: Tensor2D, z: Tensor2D, rowsAtOnce: number): void {
  const rows = x.shape[0]
  for (let first = 0; first < rows; first += rowsAtOnce) {
    const product = valuesOf(() => {
      const [left, right] = [x, z].map((all) => slice(all, [first, 0], [Math.min(rowsAtOnce, rows - first), -1])) as [Tensor2D, Tensor2D]
      return matMul(left, right, true, false)
    })
    addEntries(sums, product)
  }
}

/** Adds each entry of `more` to that of `sums`. */
export function addEntries(sums: Float64Array, more: ArrayLike<number>): void {
  for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] ?? outside(sums, i)) + (more[i] ?? outside(more, i))
}

function addDoubles(sums: Float64Array, x: Float32Array, size: number): void {
  for (let start = 0; start < x.length; start += size) {
    for (let i = 0; i < size; i++) {
      const value = x[start + i] ?? outside(x, start + i)
      for (let j = 0; j <= i; j++)
        sums[i * size + j] = (sums[i * size + j] ?? outside(sums, i * size + j)) + value * (x[start + j] ?? outside(x, start + j))
    }
  }
  for (let i = 0; i < size; i++) for (let j = 0; j < i; j++) sums[j * size + i] = sums[i * size + j] ?? outside(sums, i * size + j)
}
