import { add, mean, mul, reshape, rsqrt, square, sub, sum, type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'

export interface NormWeights {
  readonly weight?: Tensor1D
  readonly bias?: Tensor1D
  readonly epsilon: number
  readonly kind: 'rms' | 'layer'
  /** The width that the mean square is taken over when it is not that of x: a sliced model keeps the dense one. */
  readonly divisor?: number
}

/** A norm of x [N, D] as fused operations take it. */
export const fusedNorm = (norm: NormWeights, x: Tensor2D) => ({
  ...norm,
  divisor: norm.divisor ?? x.shape[1],
  centred: norm.kind === 'layer',
})

/** RMSNorm (arXiv 1910.07467, Eq. 4) or LayerNorm (arXiv 1607.06450) of each row of x [N, D]: [N, D]. */
export function normalize(x: Tensor2D, norm: NormWeights): Tensor2D {
  const { divisor, ...whole } = fusedNorm(norm, x)
  const { fused } = activeBackend()
  if (fused) return fused.normalize(x, norm.weight, norm.bias, { ...whole, divisor })
  return tidy(() => {
    const centred: Tensor2D = norm.kind === 'layer' ? sub(x, mean(x, 1, true)) : x
    const meanSquare: Tensor2D = mul(sum(square(centred), 1, true), 1 / divisor)
    let scaled: Tensor2D = mul(centred, rsqrt(add(meanSquare, norm.epsilon)))
    if (norm.weight) scaled = mul(scaled, norm.weight)
    return norm.bias ? add(scaled, norm.bias) : scaled
  })
}

/** The same on runs of columns as long as the norm's weights, each run by itself: x [N, groups * size]. */
export function normalizeGroups(x: Tensor2D, norm: NormWeights): Tensor2D {
  const size = norm.weight?.shape[0] ?? x.shape[1]
  return tidy(() => reshape(normalize(reshape(x, [-1, size]), norm), x.shape))
}
