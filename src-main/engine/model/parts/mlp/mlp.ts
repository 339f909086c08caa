import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import type { PackedMatrix, PackedMlp } from '#engine/backend/bf16-ops.ts'
import type { MlpWeights } from '#engine/model/weights/weights.ts'
import { activate, gateLimited, gateNeurons } from '#engine/tensor/activation.ts'
import { bf16Ops } from '#engine/tensor/composed-bf16-ops.ts'
import { fusedNorm } from '#engine/tensor/norm.ts'
import { isPacked, type Matrix, project } from '#engine/tensor/products.ts'
import { type CallContext, inputOf, type NeuronSums, type PartActivations, type Residual, withInner } from '../part.ts'

/** Computes the neurons [N, I] of an MLP. `x` [N, D] is its input; with packed weights, it is the stream, and the norm is applied here. */
export function neuronsOf(
  x: Tensor2D,
  weights: MlpWeights<Matrix>,
  { activation, neuronLimit }: Pick<DecoderSpec, 'activation' | 'neuronLimit'>,
): Tensor2D {
  const { norm } = weights
  if (isPacked(weights.up))
    return bf16Ops().neurons(x, { ...(weights as MlpWeights<PackedMatrix>), norm: norm && fusedNorm(norm, x), activation })
  const up = project(x, weights.up, weights.upBias)
  const gate = weights.gate && project(x, weights.gate, weights.gateBias)
  if (gate && neuronLimit) return gateLimited(gate, up, neuronLimit)
  return gate ? gateNeurons(gate, up, activation) : activate(up, activation)
}

/** Computes an MLP up to the input of its last projection. */
export function feed(source: Tensor2D, weights: MlpWeights<Matrix>, spec: DecoderSpec): PartActivations {
  const packed = isPacked(weights.up)
  const seen = inputOf(source, weights, packed)
  return withInner(seen, neuronsOf(packed ? source : seen.input, weights, spec))
}

/** Runs an MLP with packed weights in one operation. Returns the stream after it, or undefined if the operation does not cover this MLP. */
export function runFusedMlp({ x, source: blockInput }: Residual, mlp: MlpWeights<PackedMatrix>, call: CallContext): Tensor2D | undefined {
  const { spec, tokens, sumNeurons } = call
  const { norm, outputNorm, shortcut } = mlp
  if (outputNorm || shortcut) return undefined
  const source = spec.parallelResidual ? blockInput : x
  const described: PackedMlp = {
    ...mlp,
    norm: norm && fusedNorm(norm, source),
    activation: spec.activation,
    scale: spec.residualScale ?? 1,
  }
  return sumNeurons ? runSummedMlp(x, source, described, tokens, sumNeurons) : bf16Ops().mlp(x, source, described)
}

/** Does the same and passes sums of its neurons to `take`. The neurons themselves are never stored. */
function runSummedMlp(
  x: Tensor2D,
  source: Tensor2D,
  mlp: PackedMlp,
  tokens: number,
  take: (sums: NeuronSums) => void,
): Tensor2D | undefined {
  const { bf16 } = activeBackend()
  if (!bf16 || tokens % 32 > 0) return undefined
  const [after, sums] = bf16.summedMlp(x, source, mlp, tokens)
  const values = sums.dataSync()
  sums.dispose()
  take((of) => (of === 'magnitudes' ? values.subarray(0, values.length / 2) : values.subarray(values.length / 2)))
  return after
}
