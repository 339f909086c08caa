import {
  abs,
  div,
  maximum,
  mul,
  ones,
  reshape,
  sqrt,
  square,
  stack,
  sub,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  tidy,
} from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
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

/** Sums |a - b| / |b| and the cosine of a and b over the rows of a and b, [N, D] each. */
export function rowDistances(a: Tensor2D, b: Tensor2D): { error: number; cosine: number } {
  const { fused } = activeBackend()
  const pairs = valuesOf(() => fused?.distance?.(a, b) ?? stack([relativeErrors(a, b), cosines(a, b)], 1))
  const total = { error: 0, cosine: 0 }
  for (let row = 0; row < pairs.length; row += 2) {
    total.error += at(pairs, row)
    total.cosine += at(pairs, row + 1)
  }
  return total
}

const tiny = 1e-30
const norm = (x: Tensor2D): Tensor1D => sqrt(sum(square(x), 1))
const relativeErrors = (a: Tensor2D, b: Tensor2D): Tensor1D => div(norm(sub(a, b)), maximum(norm(b), tiny))
const cosines = (a: Tensor2D, b: Tensor2D): Tensor1D => div(sum(mul(a, b), 1), maximum(mul(norm(a), norm(b)), tiny))
