import { add, dispose, mul, type Tensor2D, type TensorContainer } from '@tensorflow/tfjs-core'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { blockOf, mlpOfWeights, type Part, type PartWeights } from '#engine/model/weights/weights.ts'
import { normalize, normalizeBackward } from '#engine/tensor/norm.ts'
import type { Products } from '#engine/tensor/products.ts'
import type { RotaryTables } from '#engine/tensor/rotary.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import { attendBackward, attendForward, type KeptAttention } from './attention/attention-backward.ts'
import { feedBackward, feedForward, type KeptMlp } from './mlp/mlp-backward.ts'
import { type Gradients, normGradients, type Residual } from './part.ts'

export interface TrainingCall {
  readonly spec: DecoderSpec
  readonly rotary: (block: number) => RotaryTables
  readonly products: Products
}

/** What the backward pass of a part needs of its forward pass. */
export interface KeptPart {
  readonly attention?: KeptAttention
  readonly mlp?: KeptMlp
  /** The input of the norm on the part's output, if there is one. */
  readonly output?: Tensor2D
}

export interface PartBackward {
  /** The gradient of the input of the part, [N, D], without the residual that bypasses the part. */
  readonly source: Tensor2D
  readonly gradients: Gradients
}

const attentionCall = ({ spec, rotary, products }: TrainingCall, part: Part) => {
  const block = blockOf(part)
  return { spec, products, block, tables: rotary(block) }
}

/** Returns the stream after a part, [N, D], and what its backward pass needs. The caller disposes of all of it. */
export function partForward(
  part: Part,
  weights: PartWeights,
  { x, source }: Residual,
  call: TrainingCall,
): { x: Tensor2D; kept: KeptPart } {
  const { spec, products } = call
  return tidied(() => {
    const { outputNorm } = weights.attention ?? mlpOfWeights(weights)
    const onto = outputNorm ? undefined : { add: x, scale: spec.residualScale }
    const { output, kept } = weights.attention
      ? wrap('attention', attendForward(x, weights.attention, attentionCall(call, part), onto))
      : wrap('mlp', feedForward(spec.parallelResidual ? source : x, mlpOfWeights(weights), spec.activation, products, onto))
    if (!outputNorm) return { x: output, kept }
    const added = normalize(output, outputNorm)
    const scaled: Tensor2D = spec.residualScale === undefined ? added : mul(added, spec.residualScale)
    return { x: add<Tensor2D>(x, scaled), kept: { ...kept, output } }
  })
}

function wrap<K extends string, T>(key: K, { output, kept }: { output: Tensor2D; kept: T }): { output: Tensor2D; kept: Record<K, T> } {
  return { output, kept: { [key]: kept } as Record<K, T> }
}

/** Returns the gradients of a part, given the gradient of the stream after it, [N, D]. */
export function partBackward(part: Part, weights: PartWeights, kept: KeptPart, gradient: Tensor2D, call: TrainingCall): PartBackward {
  const { spec, products } = call
  return tidied(() => {
    const { outputNorm } = weights.attention ?? mlpOfWeights(weights)
    const scaled: Tensor2D = spec.residualScale === undefined ? gradient : mul(gradient, spec.residualScale)
    const outputNormGradients = outputNorm && normalizeBackward(kept.output as Tensor2D, outputNorm, scaled)
    const byOutput = outputNormGradients?.x ?? scaled
    const { source, gradients } = weights.attention
      ? attendBackward(kept.attention as KeptAttention, weights.attention, attentionCall(call, part), byOutput)
      : feedBackward(kept.mlp as KeptMlp, mlpOfWeights(weights), spec.activation, products, byOutput)
    return { source, gradients: { ...gradients, ...normGradients('outputNorm', outputNorm, outputNormGradients) } }
  })
}

export function disposeKept(kept: KeptPart): void {
  dispose(kept as TensorContainer)
}
