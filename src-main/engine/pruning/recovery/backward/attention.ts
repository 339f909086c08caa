import { concat, mul, reshape, sigmoid, slice, sub, sum, type Tensor, type Tensor1D, type Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { type BlockTensors, type DecoderSpec, type DeltaShape, mixerKeys, mixerProjections } from '#engine/architectures/spec.ts'
import type { AttentionShape } from '#engine/backend/halves.ts'
import { normalizeHeads, takeGates } from '#engine/model/decoder.ts'
import { mixByDelta } from '#engine/model/delta-net.ts'
import type { AttentionWeights } from '#engine/model/weights/weights.ts'
import { mixHeadsBackward } from '#engine/tensor/attention-backward.ts'
import { attendHeads } from '#engine/tensor/heads.ts'
import { type NormGradients, normalize, normalizeBackward, normalizeGroupsBackward } from '#engine/tensor/norm.ts'
import { combine, correlate, matrixFor, type Onto, type Products, project, projectNormed } from '#engine/tensor/products.ts'
import type { RotaryTables } from '#engine/tensor/rotary.ts'
import { halfUnits } from '#engine/tensor/runtime-halves.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import { mixByDeltaBackward } from './delta-net.ts'
import { type Gradients, normGradients } from './gradients.ts'

/** What the backward pass of attention needs of its forward pass. */
export interface KeptAttention {
  /** The input of the part, before its norm: [N, D]. */
  readonly source: Tensor2D
  /** Queries, keys and values as projected, before norms on queries and keys: [N, (H + 2K) d]. */
  readonly plain: Tensor2D
  /** The same after these norms. */
  readonly normed: Tensor2D
  /** The output of the heads: [N, H d]. */
  readonly mixed: Tensor2D
  /** The gates on it before their sigmoid, [N, H d]. */
  readonly gate?: Tensor2D
}

export interface AttentionCall {
  readonly spec: DecoderSpec
  readonly block: number
  readonly tables: RotaryTables
  readonly products: Products
}

const shapeOf = ({ spec, block }: AttentionCall): AttentionShape => ({
  heads: spec.heads,
  keyValueHeads: spec.keyValueHeads,
  cap: spec.scoreCap,
  window: spec.slidingWindow(block) ?? 0,
})

const samplesOf = ({ tables }: AttentionCall, source: Tensor2D): number => source.shape[0] / tables.cosine.shape[0]

/** Runs attention on source [N, D], without the norm on its output. Adds the output to a stream if `onto` is given. */
export function attendForward(
  source: Tensor2D,
  weights: AttentionWeights,
  call: AttentionCall,
  onto?: Onto,
): { readonly output: Tensor2D; readonly kept: KeptAttention } {
  return tidied(() => {
    const kept = mixForward(source, weights, call)
    const output = project(readOf(kept), matrixFor(weights.output, call.products), weights.outputBias, onto)
    return { output, kept }
  })
}

/** Runs attention up to the output of its heads. */
export function mixForward(source: Tensor2D, weights: AttentionWeights, call: AttentionCall): KeptAttention {
  const { spec, products } = call
  return tidied(() => {
    const projected = projectNormed(source, weights.norm, matrixFor(weights.queryKeyValue, products), weights.queryKeyValueBias)
    if (weights.delta) {
      const { mixed } = mixByDelta(projected, weights.delta, spec.delta as DeltaShape, samplesOf(call, source))
      return { source: source.clone(), plain: projected, normed: projected.clone(), mixed }
    }
    // Only OLMoE clips, and mixtures have no recovery. A gradient without the clip would be wrong.
    if (spec.projectionLimit !== undefined)
      throw new EspalierError('infeasible', 'No gradients are computed for clipped queries, keys and values (clip_qkv).')
    const { plain, gate } = takeGates(projected, spec)
    const normed = normalizeHeads(plain, weights, spec)
    const mixed = mix(normed, call)
    return { source: source.clone(), plain: plain.clone(), normed: normed.clone(), mixed, ...(gate ? { gate } : {}) }
  })
}

/** The input of the last projection: the output of the heads, times their gates if there are any. [N, H d]. */
export const readOf = ({ mixed, gate }: KeptAttention): Tensor2D => (gate ? mul(mixed, sigmoid(gate)) : mixed)

function mix(normed: Tensor2D, call: AttentionCall): Tensor2D {
  const { tables, products } = call
  if (products === 'float32') return attendHeads(normed, tables, shapeOf(call))
  return halfUnits().attention(normed, tables.cosine, tables.sine, shapeOf(call), products === 'split')
}

/** Returns the gradients of attention, given the gradient of its output, [N, D]. */
export function attendBackward(
  kept: KeptAttention,
  weights: AttentionWeights,
  call: AttentionCall,
  gradient: Tensor2D,
): { readonly source: Tensor2D; readonly gradients: Gradients } {
  const { spec, block, products } = call
  return tidied(() => {
    const { source, projected, front, ofMixer } = mixBackward(kept, weights, call, combine(gradient, weights.output, products))
    const input = weights.norm ? normalize(kept.source, weights.norm) : kept.source
    const bias = weights.queryKeyValueBias && sum<Tensor1D>(projected, 0)
    const joined = { weight: correlate(projected, input, products), bias }
    return {
      source,
      gradients: {
        output: correlate(gradient, readOf(kept), products),
        ...(weights.outputBias ? { outputBias: sum<Tensor1D>(gradient, 0) } : {}),
        ...projectionGradients(joined, spec.block(block), weights, spec),
        ...ofMixer,
        ...normGradients('norm', weights.norm, front),
      },
    }
  })
}

/**
 * Goes back through `mixForward`, given the gradient of the last projection's input, [N, H d]. Returns the gradients of the part's input
 * and of what was projected from it, and those of the tensors in between.
 */
export function mixBackward(
  kept: KeptAttention,
  weights: AttentionWeights,
  call: AttentionCall,
  byRead: Tensor2D,
): {
  readonly source: Tensor2D
  readonly projected: Tensor2D
  readonly front: NormGradients | undefined
  readonly ofMixer: Gradients
} {
  const { spec, products } = call
  return tidied(() => {
    const { source, plain, gate } = kept
    const { projected, gradients: ofMixer } = weights.delta
      ? mixByDeltaBackward(plain, weights.delta, spec.delta as DeltaShape, samplesOf(call, source), byRead)
      : headsBackward(kept, weights, call, byRead, gate && sigmoid(gate))
    const byInput = combine(projected, weights.queryKeyValue, products)
    const front = weights.norm && normalizeBackward(source, weights.norm, byInput)
    return { source: front?.x ?? byInput, projected, front, ofMixer }
  })
}

/**
 * Returns the gradients of softmax attention between its projections, given the gradient of the last projection's input. `open` is the
 * sigmoid of the gates.
 */
function headsBackward(
  { plain, normed, mixed }: KeptAttention,
  weights: AttentionWeights,
  call: AttentionCall,
  byRead: Tensor2D,
  open: Tensor2D | undefined,
): { readonly projected: Tensor2D; readonly gradients: Gradients } {
  const { spec, tables, products } = call
  const byMixed: Tensor2D = open ? mul(byRead, open) : byRead
  const byNormed = mixHeadsBackward(normed, tables, shapeOf(call), byMixed, products)
  const heads = normsBackward(plain, weights, spec, byNormed)
  if (!open) return { projected: heads.plain, gradients: heads.gradients }
  const byGate: Tensor2D = mul(mul(byRead, mixed), mul(open, sub(1, open)))
  return { projected: placeGates(heads.plain, byGate, spec), gradients: heads.gradients }
}

/** Returns the gradients before the norms on queries and keys, if there are any. */
function normsBackward(
  plain: Tensor2D,
  { queryNorm, keyNorm }: AttentionWeights,
  spec: DecoderSpec,
  gradient: Tensor2D,
): { readonly plain: Tensor2D; readonly gradients: Gradients } {
  if (!queryNorm || !keyNorm) return { plain: gradient, gradients: {} }
  const [queries, keys] = [spec.heads * spec.headSize, spec.keyValueHeads * spec.headSize]
  const columns = (x: Tensor2D, first: number, count: number): Tensor2D => slice(x, [0, first], [-1, count])
  const query = normalizeGroupsBackward(columns(plain, 0, queries), queryNorm, columns(gradient, 0, queries))
  const key = normalizeGroupsBackward(columns(plain, queries, keys), keyNorm, columns(gradient, queries, keys))
  return {
    plain: concat([query.x, key.x, columns(gradient, queries + keys, keys)], 1),
    // The norm on queries also scales them.
    gradients: { ...normGradients('queryNorm', queryNorm, query, spec.scoreScale), ...normGradients('keyNorm', keyNorm, key) },
  }
}

/** Inserts the gradients of the gates after those of each head's query. The inverse of `takeGates`. */
function placeGates(plain: Tensor2D, gate: Tensor2D, { heads, headSize }: DecoderSpec): Tensor2D {
  const byHead = (x: Tensor2D) => reshape(x, [-1, heads, 1, headSize])
  const both = concat([byHead(slice(plain, [0, 0], [-1, heads * headSize])), byHead(gate)], 2)
  return concat([reshape(both, [-1, 2 * heads * headSize]), slice(plain, [0, heads * headSize], [-1, -1])], 1) as Tensor2D
}

/** Splits the joined gradient into those of the projections as the checkpoint stores them. Stored queries have no score scale. */
function projectionGradients(
  joined: { readonly weight: Tensor2D; readonly bias: Tensor1D | undefined },
  tensors: BlockTensors,
  { queryNorm, delta }: AttentionWeights,
  spec: DecoderSpec,
): Gradients {
  const gradients: Record<string, Tensor> = {}
  let first = 0
  for (const [index, { rows }] of mixerProjections(tensors).entries()) {
    const key = at(mixerKeys, index)
    const scale = key === 'query' && !queryNorm && !delta ? spec.scoreScale : 1
    const scaled = (own: Tensor): Tensor => (scale === 1 ? own : mul(own, scale))
    gradients[key] = scaled(slice(joined.weight, [first, 0], [rows, -1]))
    if (joined.bias) gradients[`${key}Bias`] = scaled(slice(joined.bias, [first], [rows]))
    first += rows
  }
  return gradients
}
