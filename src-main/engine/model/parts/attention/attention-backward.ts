import {
  add,
  concat,
  mul,
  neg,
  pad,
  type Rank,
  reshape,
  sigmoid,
  slice,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { type BlockTensors, type DecoderSpec, type DeltaShape, mixerKeys, mixerProjections } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import type { AttentionShape } from '#engine/backend/bf16-ops.ts'
import { mixByDelta } from '#engine/model/parts/delta-net/delta-net.ts'
import type { AttentionWeights } from '#engine/model/weights/weights.ts'
import { capValues } from '#engine/tensor/activation.ts'
import { type NormGradients, normalize, normalizeBackward, normalizeGroupsBackward } from '#engine/tensor/norm.ts'
import {
  batchedCorrelation,
  batchedProduct,
  combine,
  correlate,
  matrixFor,
  type Onto,
  type Products,
  project,
  projectNormed,
} from '#engine/tensor/products.ts'
import { type RotaryTables, rotate } from '#engine/tensor/rotary.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import { mixByDeltaBackward } from '../delta-net/delta-net-backward.ts'
import { type Gradients, normGradients } from '../part.ts'
import { attendHeads, attendInBf16, normalizeHeads, takeGates } from './attention.ts'
import { type CausalCall, hiddenMask, rowsPerChunk, splitHeads } from './plain-attention.ts'

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
  return attendInBf16(normed, tables, shapeOf(call), products === 'split')
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

/** Gradients with respect to queries [G, H/K, rows, d], keys and values [G, T, d]. */
interface RowGradients {
  readonly query: Tensor4D
  readonly key: Tensor3D
  readonly value: Tensor3D
}

/**
 * The gradient of a loss with respect to projections [B*T, (H + 2K) d], given the gradient with respect to the result of `attendHeads`,
 * [B*T, H d]. Probabilities are recomputed for one chunk of rows at a time, so that no [T, T] matrix of all heads is kept between the
 * passes.
 */
export function mixHeadsBackward(
  projected: Tensor2D,
  tables: RotaryTables,
  shape: AttentionShape,
  gradient: Tensor2D,
  products: Products = 'float32',
): Tensor2D {
  const { fused, bf16 } = activeBackend()
  if (bf16 && products === 'bfloat16') return bf16.attentionBackward(projected, tables.cosine, tables.sine, shape, gradient)
  if (fused?.attentionBackward) return fused.attentionBackward(projected, tables.cosine, tables.sine, shape, gradient)
  return tidy(() => {
    const { heads, keyValueHeads: groups } = shape
    const [rows, tokens] = [projected.shape[0], tables.cosine.shape[0]]
    const batch = rows / tokens
    const split = splitHeads(projected, tables, shape, batch)
    const size = split.key.shape[2]
    const byHead: Tensor4D = transpose(reshape(gradient, [batch, tokens, heads, size]), [0, 2, 1, 3])
    const outer: Tensor4D = reshape(byHead, [batch * groups, heads / groups, tokens, size])
    const found = causalBackward({ ...split, window: shape.window || undefined, cap: shape.cap }, outer)
    const byRotated = concat([reshape(found.query, [batch, heads, tokens, size]), reshape(found.key, [batch, groups, tokens, size])], 1)
    const back = rotate(byRotated as Tensor4D, { ...tables, sine: neg(tables.sine) })
    const all = concat([back, reshape(found.value, [batch, groups, tokens, size])], 1)
    return reshape(transpose(all, [0, 2, 1, 3]), [rows, (heads + 2 * groups) * size])
  })
}

/** Gradients with respect to the inputs of `causalAttention`, given the gradient with respect to its result [G, H/K, T, d]. */
function causalBackward(call: CausalCall, gradient: Tensor4D): RowGradients {
  const tokens = call.query.shape[2]
  const step = rowsPerChunk(tokens)
  let sums: RowGradients | undefined
  for (let row = 0; row < tokens; row += step) {
    const before = sums
    sums = tidied(() => {
      const ofRows = attendRowsBackward(call, gradient, row, Math.min(step, tokens - row))
      if (!before) return ofRows
      return {
        query: concat([before.query, ofRows.query], 2),
        key: add<Tensor3D>(before.key, ofRows.key),
        value: add<Tensor3D>(before.value, ofRows.value),
      }
    })
  }
  return sums as RowGradients
}

function attendRowsBackward({ query, key, value, window, cap }: CausalCall, gradient: Tensor4D, row: number, rows: number): RowGradients {
  const [groups, perGroup, tokens, size] = query.shape
  const take = (x: Tensor4D): Tensor3D => reshape(slice(x, [0, 0, row, 0], [-1, -1, rows, -1]), [groups, perGroup * rows, size])
  const first = window === undefined ? 0 : Math.max(0, row - window + 1)
  const seen = row + rows - first
  const near = (x: Tensor3D): Tensor3D => slice(x, [0, first, 0], [-1, seen, -1])
  const [queries, outer, keys, values] = [take(query), take(gradient), near(key), near(value)]
  const scores = capValues(batchedProduct(queries, keys, true), cap)
  const mask = hiddenMask(row - first, rows, seen, window)
  const visible: Tensor4D = reshape(scores, [groups, perGroup, rows, seen])
  const weights: Tensor3D = reshape(softmax(mask ? add(visible, mask) : visible), [groups, perGroup * rows, seen])
  const byWeights = batchedProduct(outer, values, true)
  const level: Tensor3D = sum(mul(byWeights, weights), 2, true)
  const byScores: Tensor3D = mul(weights, sub(byWeights, level))
  const inner: Tensor3D = cap === undefined ? byScores : mul(byScores, sub(1, square(mul(scores, 1 / cap))))
  const place = (x: Tensor3D): Tensor3D =>
    pad(x, [
      [0, 0],
      [first, tokens - first - seen],
      [0, 0],
    ])
  return {
    query: reshape<Rank.R4>(batchedProduct(inner, keys, false), [groups, perGroup, rows, size]),
    key: place(batchedCorrelation(inner, queries)),
    value: place(batchedCorrelation(weights, outer)),
  }
}
