import { add, mean, mul, type Rank, reshape, rsqrt, square, sub, sum, type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import { tidied } from './tidied.ts'

export interface NormWeights {
  readonly weight?: Tensor1D
  readonly bias?: Tensor1D
  readonly epsilon: number
  readonly kind: 'rms' | 'layer'
  /** The number that the sum of squares is divided by, if it is not the width of x: a sliced model keeps the width of the dense one. */
  readonly divisor?: number
}

/** Describes a norm of x [N, D] in the form that fused operations take. */
export const fusedNorm = (norm: NormWeights, x: Tensor2D) => ({
  ...norm,
  divisor: norm.divisor ?? x.shape[1],
  centred: norm.kind === 'layer',
})

/** RMSNorm (arXiv 1910.07467, Eq. 4) or LayerNorm (arXiv 1607.06450) of each row of x [N, D]: [N, D]. */
export function normalize(x: Tensor2D, norm: NormWeights): Tensor2D {
  const { divisor, ...whole } = fusedNorm(norm, x)
  const { fused } = activeBackend()
  if (fused?.normalize) return fused.normalize(x, norm.weight, norm.bias, { ...whole, divisor })
  return tidy(() => {
    const centred: Tensor2D = norm.kind === 'layer' ? sub(x, mean(x, 1, true)) : x
    const meanSquare: Tensor2D = mul(sum(square(centred), 1, true), 1 / divisor)
    let scaled: Tensor2D = mul(centred, rsqrt(add(meanSquare, norm.epsilon)))
    if (norm.weight) scaled = mul(scaled, norm.weight)
    return norm.bias ? add(scaled, norm.bias) : scaled
  })
}

/** Normalises each group of columns of x [N, groups * size] by itself. `size` is the length of the norm's weight. */
export function normalizeGroups(x: Tensor2D, norm: NormWeights): Tensor2D {
  const size = norm.weight?.shape[0] ?? x.shape[1]
  return tidy(() => reshape(normalize(reshape(x, [-1, size]), norm), x.shape))
}

export interface NormGradients {
  readonly x: Tensor2D
  /** With respect to the norm's weight (as it multiplies, with any offset added) and its bias. */
  readonly weight: Tensor1D
  readonly bias: Tensor1D
}

/** Gradients of a loss with respect to x [N, D] and the norm's weights, given the gradient with respect to `normalize(x, norm)`. */
export function normalizeBackward(x: Tensor2D, norm: NormWeights, gradient: Tensor2D): NormGradients {
  const whole = fusedNorm(norm, x)
  const { divisor } = whole
  const { fused } = activeBackend()
  if (fused?.normalizeBackward) {
    const [byX, weight, bias] = fused.normalizeBackward(x, norm.weight, gradient, whole)
    return { x: byX, weight, bias }
  }
  return tidied(() => {
    const centred: Tensor2D = norm.kind === 'layer' ? sub(x, mean(x, 1, true)) : x
    const scale: Tensor2D = rsqrt(add(mul(sum(square(centred), 1, true), 1 / divisor), norm.epsilon))
    const unit: Tensor2D = mul(centred, scale)
    const inner: Tensor2D = norm.weight ? mul(gradient, norm.weight) : gradient
    const along: Tensor2D = mul(unit, mul(sum(mul(inner, unit), 1, true), 1 / divisor))
    const level: Tensor2D = norm.kind === 'layer' ? sub(inner, mean(inner, 1, true)) : inner
    return { x: mul<Tensor2D>(sub(level, along), scale), weight: sum<Tensor1D>(mul(gradient, unit), 0), bias: sum<Tensor1D>(gradient, 0) }
  })
}

/** The same gradients for `normalizeGroups`. */
export function normalizeGroupsBackward(x: Tensor2D, norm: NormWeights, gradient: Tensor2D): NormGradients {
  const size = norm.weight?.shape[0] ?? x.shape[1]
  return tidied(() => {
    const gradients = normalizeBackward(reshape(x, [-1, size]), norm, reshape(gradient, [-1, size]))
    return { ...gradients, x: reshape<Rank.R2>(gradients.x, x.shape) }
  })
}
