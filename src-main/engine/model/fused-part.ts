import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { fewRows } from '#engine/tensor/products.ts'
import { cachedPositions } from './cache.ts'
import type { CallContext, Residual } from './decoder.ts'
import { type AttentionWeights, blockOf, type MlpWeights, type Part, type PartWeights } from './weights.ts'

/**
 * The stream behind a part by one operation, for few tokens that follow a cache: between the operations of a token lies more time than in
 * them. Undefined where there is no such operation, or where it does not know a word of this model.
 */
export function runFusedPart(part: Part, weights: PartWeights, residual: Residual, call: CallContext): Tensor2D | undefined {
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
  return { ...norm, divisor: norm.divisor ?? x.shape[1], centred: norm.kind === 'layer' }
}
