import { type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { type DecoderSpec, hasExperts } from '#engine/architectures/spec.ts'
import type { PackedMatrix } from '#engine/backend/bf16-ops.ts'
import { type Matrix, project } from '#engine/tensor/products.ts'
import { attend, runFusedAttention } from './parts/attention/attention.ts'
import { combineExperts, type RoutedExperts, routeTokens } from './parts/mixture/mixture.ts'
import { feed, runFusedMlp } from './parts/mlp/mlp.ts'
import { addTo, type CallContext, normalizeIf, type PartActivations, type Residual } from './parts/part.ts'
import { blockOf, type MixtureWeights, type MlpWeights, type Part, type PartWeights } from './weights/weights.ts'

/** Runs one part on a residual stream. Returns the stream after the part, which the caller disposes of. */
export function runPart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): Tensor2D {
  return tidy(() => {
    const seen = runUpToLastProjection(part, weights, residual, call)
    const output = outputOf(seen, weights, call.spec)
    call.observe?.(Object.assign(seen, { output }))
    return addTo(residual.x, output, weights.attention ?? weights.mlp ?? weights.mixture, call.spec)
  })
}

/**
 * Runs a part with packed weights in one to three operations, which include its norm, the addition to the stream and everything between the
 * products. Returns the stream after the part, or undefined if these operations do not cover the part.
 */
export function runFusedPart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): Tensor2D | undefined {
  const { attention, mlp } = weights as PartWeights<PackedMatrix>
  if (attention) return runFusedAttention(residual.x, attention, blockOf(part), call)
  return mlp && runFusedMlp(residual, mlp, call)
}

/** Computes the stream after a part, given the input of its last projection. The caller disposes of it. */
export function completePart(inner: Tensor2D, weights: PartWeights<Matrix>, { x }: Residual, spec: DecoderSpec): Tensor2D {
  return tidy(() => addTo(x, lastProduct(inner, weights), weights.attention ?? (weights.mlp as MlpWeights<Matrix>), spec))
}

function outputOf(seen: BeforeLastProjection, weights: PartWeights<Matrix>, spec: DecoderSpec): Tensor2D {
  return seen.routed ? combineExperts(seen.input, seen.routed, spec) : lastProduct(seen.inner, weights)
}

function lastProduct(inner: Tensor2D, { attention, mlp }: PartWeights<Matrix>): Tensor2D {
  return attention ? project(inner, attention.output, attention.outputBias) : project(inner, mlp?.down as Matrix, mlp?.downBias)
}

/** Runs a part up to the input of its last projection, and passes that to the call's observer. */
export function observePart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): void {
  tidy(() => {
    call.observe?.(runUpToLastProjection(part, weights, residual, call))
  })
}

type BeforeLastProjection = PartActivations & { readonly routed?: RoutedExperts }

/** Computes a part up to the input of its last projection. */
function runUpToLastProjection(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): BeforeLastProjection {
  if (weights.attention) return attend(residual.x, weights.attention, blockOf(part), call)
  const source = call.spec.parallelResidual ? residual.source : residual.x
  return weights.mlp ? feed(source, weights.mlp, call.spec) : feedExperts(source, weights.mixture, call)
}

function feedExperts(source: Tensor2D, weights: MixtureWeights<Matrix>, { spec, only }: CallContext): BeforeLastProjection {
  const input = normalizeIf(source, weights.norm)
  const routed = routeTokens(input, weights, spec, only)
  return {
    input,
    get inner(): Tensor2D {
      throw hasExperts()
    },
    routed,
    experts: routed.experts,
  }
}
