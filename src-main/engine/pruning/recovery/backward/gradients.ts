import { mul, type Tensor, type Tensor1D } from '@tensorflow/tfjs-core'
import type { NormGradients, NormWeights } from '#engine/tensor/norm.ts'

/** The gradients of the tensors of a part, under the keys of `partNames`. Keys of biases end in `Bias`. */
export type Gradients = Readonly<Record<string, Tensor>>

/**
 * Returns the gradients of a norm under its key. That of the weights is multiplied by `scale`, because the norm computes with its stored
 * weights times `scale`.
 */
export function normGradients(key: string, norm: NormWeights | undefined, found: NormGradients | undefined, scale = 1): Gradients {
  if (!norm || !found) return {}
  return {
    ...(norm.weight ? { [key]: scale === 1 ? found.weight : mul<Tensor1D>(found.weight, scale) } : {}),
    ...(norm.bias ? { [`${key}Bias`]: found.bias } : {}),
  }
}
