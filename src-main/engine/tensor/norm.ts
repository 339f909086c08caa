import { type Tensor1D, type Tensor2D, tidy } from '@tensorflow/tfjs-core'

export interface NormWeights {
  readonly weight?: Tensor1D
  readonly bias?: Tensor1D
  readonly epsilon: number
  readonly kind: 'rms' | 'layer'
  /** The width that the mean square is taken over when it is not that of x: a sliced model keeps the dense one. */
  readonly divisor?: number
}

/** RMSNorm (arXiv 1910.07467, Eq. 4) or LayerNorm (arXiv 1607.06450) of each row of x [N, D]: [N, D]. */
export function normalize(x: Tensor2D, norm: NormWeights): Tensor2D {
  return tidy(() => {
    const centred = norm.kind === 'layer' ? x.sub(x.mean(1, true)) : x
    const meanSquare = centred.square().sum(1, true).mul(1 / (norm.divisor ?? x.shape[1]))
    let scaled = centred.mul(meanSquare.add(norm.epsilon).rsqrt())
    if (norm.weight) scaled = scaled.mul(norm.weight)
    return (norm.bias ? scaled.add(norm.bias) : scaled) as Tensor2D
  })
}
