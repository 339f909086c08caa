import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { HalfMatrix } from '#engine/backend/halves.ts'
import { activate, gateLimited, gateNeurons } from '#engine/tensor/activation.ts'
import { fusedNorm } from '#engine/tensor/norm.ts'
import { isHalf, type Matrix, project } from '#engine/tensor/products.ts'
import { halfUnits } from '#engine/tensor/runtime-halves.ts'
import type { MlpWeights } from './weights/weights.ts'

/** Computes the neurons [N, I] of an MLP. `x` [N, D] is its input; with packed weights, it is the stream, and the norm is applied here. */
export function neuronsOf(
  x: Tensor2D,
  weights: MlpWeights<Matrix>,
  { activation, neuronLimit }: Pick<DecoderSpec, 'activation' | 'neuronLimit'>,
): Tensor2D {
  const { norm } = weights
  if (isHalf(weights.up))
    return halfUnits().neurons(x, { ...(weights as MlpWeights<HalfMatrix>), norm: norm && fusedNorm(norm, x), activation })
  const up = project(x, weights.up, weights.upBias)
  const gate = weights.gate && project(x, weights.gate, weights.gateBias)
  if (gate && neuronLimit) return gateLimited(gate, up, neuronLimit)
  return gate ? gateNeurons(gate, up, activation) : activate(up, activation)
}
