import { abs, ones, reshape, square, type Tensor2D, type Tensor3D } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import { batchedProduct } from './products.ts'
import { valuesOf } from './read.ts'

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
