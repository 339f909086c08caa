import { type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { activations } from '#engine/backend/fused.ts'
import type { HalfMatrix } from '#engine/backend/halves.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import { fewRows, halfUnits, isHalf, type Matrix } from '#engine/tensor/products.ts'
import { cachedPositions } from './cache.ts'
import { type CallContext, mixHeads, type Residual } from './decoder.ts'
import { type AttentionWeights, blockOf, type MlpWeights, type Part, type PartWeights } from './weights.ts'

/**
 * The stream behind a part by as few operations as there are for it: one for few tokens that follow a cache, as between the operations of
 * a token lies more time than in them; one to three for packed weights. Undefined where there is none that knows all words of this model.
 */
export function runFusedPart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): Tensor2D | undefined {
  if (hasHalves(weights)) return call.observe ? undefined : runHalfPart(part, weights, residual, call)
  return runFewRows(part, weights as PartWeights, residual, call)
}

const hasHalves = (weights: PartWeights<Matrix>): weights is PartWeights<HalfMatrix> =>
  isHalf(weights.attention ? weights.attention.output : weights.mlp.down)

/** Norms, sums and what lies between the products of a part go with the products. */
function runHalfPart(part: Part, weights: PartWeights<HalfMatrix>, residual: Residual, call: CallContext): Tensor2D | undefined {
  const { attention, mlp } = weights
  const { spec } = call
  const halves = halfUnits()
  const scale = spec.residualScale ?? 1
  if (attention) {
    const { norm, outputNorm, shortcut, delta, queryKeyValue, queryKeyValueBias, output, outputBias } = attention
    if (outputNorm || shortcut || delta) return undefined
    return tidy(() => {
      const projected = halves.product(residual.x, queryKeyValue, { norm: norm && fullNorm(norm, residual.x), bias: queryKeyValueBias })
      const mixed = mixHeads(projected, attention, blockOf(part), call)
      return halves.product(mixed, output, { bias: outputBias, add: residual.x, scale })
    })
  }
  const { norm, outputNorm, shortcut } = mlp
  if (outputNorm || shortcut) return undefined
  const source = spec.parallelResidual ? residual.source : residual.x
  return halves.mlp(residual.x, source, { ...mlp, norm: norm && fullNorm(norm, source), activation: activations[spec.activation], scale })
}

function runFewRows(part: Part, weights: PartWeights, residual: Residual, call: CallContext): Tensor2D | undefined {
  const { fused } = activeBackend()
  if (!fused || !call.past || call.observe || residual.x.shape[0] > fewRows) return undefined
  const { spec } = call
  const { attention, mlp } = weights
  if (attention) {
    const norm = plainNorm(attention, residual.x)
    if (!norm || !isPlain(attention, spec)) return undefined
    const cached = cachedPositions(blockOf(part), call, call.past)
    return fused.attentionPart(residual.x, { ...attention, norm, scale: spec.residualScale ?? 1 }, cached)
  }
  const norm = plainNorm(mlp, residual.x)
  if (!norm) return undefined
  const source = spec.parallelResidual ? residual.source : residual.x
  // In a sliced model the stream beside a parallel MLP may have got another width already.
  if (source.shape[1] !== residual.x.shape[1]) return undefined
  return fused.mlpPart(residual.x, source, { ...mlp, norm, activation: spec.activation, scale: spec.residualScale ?? 1 })
}

const isPlain = ({ queryNorm, keyNorm, delta }: AttentionWeights, { scoreCap, gatedQueries }: DecoderSpec) =>
  !queryNorm && !keyNorm && !delta && scoreCap === undefined && !gatedQueries

/** The norm of a part that has one in front, and nothing behind. */
function plainNorm({ norm, outputNorm, shortcut }: AttentionWeights | MlpWeights, x: Tensor2D) {
  if (!norm || outputNorm || shortcut) return undefined
  return fullNorm(norm, x)
}

const fullNorm = (norm: NormWeights, x: Tensor2D) => ({ ...norm, divisor: norm.divisor ?? x.shape[1], centred: norm.kind === 'layer' })
