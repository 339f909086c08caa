import { type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { HalfMatrix, HalfMlp } from '#engine/backend/halves.ts'
import { halfUnits } from '#engine/tensor/half-units.ts'
import { fusedNorm } from '#engine/tensor/norm.ts'
import type { Matrix } from '#engine/tensor/products.ts'
import { type CallContext, mixHeads, type NeuronSums, type Residual } from './decoder.ts'
import { blockOf, type Part, type PartWeights } from './weights/weights.ts'

/**
 * Runs a part with packed weights in one to three operations, which include its norm, the addition to the stream and everything between the
 * products. Returns the stream after the part, or undefined if these operations do not cover the part.
 */
export function runHalfPart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): Tensor2D | undefined {
  const { attention, mlp } = weights as PartWeights<HalfMatrix>
  if (!attention && !mlp) return undefined
  const { spec } = call
  const halves = halfUnits()
  const scale = spec.residualScale ?? 1
  if (attention) {
    const { norm, outputNorm, shortcut, delta, queryKeyValue, queryKeyValueBias, output, outputBias } = attention
    if (outputNorm || shortcut || delta) return undefined
    return tidy(() => {
      const projected = halves.product(residual.x, queryKeyValue, { norm: norm && fusedNorm(norm, residual.x), bias: queryKeyValueBias })
      const mixed = mixHeads(projected, attention, blockOf(part), call)
      return halves.product(mixed, output, { bias: outputBias, add: residual.x, scale })
    })
  }
  const { norm, outputNorm, shortcut } = mlp
  if (outputNorm || shortcut) return undefined
  const source = spec.parallelResidual ? residual.source : residual.x
  const described: HalfMlp = { ...mlp, norm: norm && fusedNorm(norm, source), activation: spec.activation, scale }
  if (!call.sumNeurons) return halves.mlp(residual.x, source, described)
  return sumHalfPart(residual.x, source, described, call.tokens, call.sumNeurons)
}

/** Runs an MLP like this and passes sums of its neurons to `take`. The neurons themselves are never stored. */
function sumHalfPart(x: Tensor2D, source: Tensor2D, mlp: HalfMlp, tokens: number, take: (sums: NeuronSums) => void): Tensor2D | undefined {
  const { halves } = activeBackend()
  if (!halves || tokens % 32 > 0) return undefined
  const [after, sums] = halves.summedMlp(x, source, mlp, tokens)
  const values = sums.dataSync()
  sums.dispose()
  take((of) => (of === 'magnitudes' ? values.subarray(0, values.length / 2) : values.subarray(values.length / 2)))
  return after
}
