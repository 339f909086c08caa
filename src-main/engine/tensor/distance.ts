import { div, maximum, mul, sqrt, square, stack, sub, sum, type Tensor1D, type Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { valuesOf } from './column-sums.ts'

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
