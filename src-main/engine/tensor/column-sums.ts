import { abs, ones, reshape, square, type Tensor, type Tensor2D, type Tensor3D, tidy } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import { batchedProduct } from './products.ts'

/**
 * Sums each column's magnitudes or squares over the T positions of each window. Takes x [B*T, I] and returns [B, I], row by row. A product
 * with ones is ten times as fast as a reduction.
 */
export function columnSums(x: Tensor2D, batch: number, tokens: number, of: 'magnitudes' | 'squares'): ArrayLike<number> {
  const { fused } = activeBackend()
  return valuesOf(() => {
    if (fused?.columnSums) return fused.columnSums(x, tokens, of === 'squares')
    const powers: Tensor3D = reshape(of === 'squares' ? square(x) : abs(x), [batch, tokens, x.shape[1]])
    return batchedProduct(ones([batch, 1, tokens]), powers, false)
  })
}

/**
 * Returns the values of the float32 tensor that `compute` returns, and releases all tensors that it created. Use this instead of returning
 * an array from `tidy`, which would look for tensors in every element (0.2 microseconds each).
 */
export function valuesOf(compute: () => Tensor): Float32Array {
  const result = tidy(compute)
  const values = result.dataSync() as Float32Array
  result.dispose()
  return values
}
