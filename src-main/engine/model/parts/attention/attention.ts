import {
  clipByValue,
  concat,
  matMul,
  mul,
  type Rank,
  reshape,
  sigmoid,
  slice,
  type Tensor1D,
  type Tensor2D,
  tidy,
} from '@tensorflow/tfjs-core'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import type { AttentionShape, PackedMatrix } from '#engine/backend/bf16-ops.ts'
import type { AttentionWeights } from '#engine/model/weights/weights.ts'
import { bf16Ops } from '#engine/tensor/composed-bf16-ops.ts'
import { fusedNorm, normalizeGroups } from '#engine/tensor/norm.ts'
import { isPacked, type Matrix, project } from '#engine/tensor/products.ts'
import type { RotaryTables } from '#engine/tensor/rotary.ts'
import { mixDelta } from '../delta-net/delta-net.ts'
import { type CallContext, inputOf, type PartActivations, withInner } from '../part.ts'
import { mixHeadsByStep, mixWithCache } from './plain-attention.ts'

/** Computes attention, or the token mixer that replaces it, up to the input of its last projection. */
export function attend(x: Tensor2D, weights: AttentionWeights<Matrix>, block: number, call: CallContext): PartActivations {
  const { queryKeyValue, queryKeyValueBias: bias } = weights
  const input = inputOf(x, weights, isPacked(queryKeyValue))
  const norm = weights.norm && fusedNorm(weights.norm, x)
  const projected = isPacked(queryKeyValue)
    ? bf16Ops().product(x, queryKeyValue, { norm, bias })
    : project(input.input, queryKeyValue, bias)
  return withInner(input, weights.delta ? mixDelta(projected, weights.delta, block, call) : mixHeads(projected, weights, block, call))
}

/** Computes the stream after attention with packed weights in three operations. Undefined if they do not cover this attention. */
export function runFusedAttention(
  x: Tensor2D,
  weights: AttentionWeights<PackedMatrix>,
  block: number,
  call: CallContext,
): Tensor2D | undefined {
  const { norm, outputNorm, shortcut, delta, queryKeyValue, queryKeyValueBias, output, outputBias } = weights
  if (outputNorm || shortcut || delta) return undefined
  return tidy(() => {
    const projected = bf16Ops().product(x, queryKeyValue, { norm: norm && fusedNorm(norm, x), bias: queryKeyValueBias })
    const mixed = mixHeads(projected, weights, block, call)
    return bf16Ops().product(mixed, output, { bias: outputBias, add: x, scale: call.spec.residualScale ?? 1 })
  })
}

/** Mixes values by softmax attention, and applies the gate on each head if there is one: [B*T, H d]. */
function mixHeads(projected: Tensor2D, weights: AttentionWeights<Matrix>, block: number, call: CallContext): Tensor2D {
  const { plain, gate } = takeGates(projected, call.spec)
  const normed = normalizeHeads(plain, weights, call.spec)
  const mixed = mix(limitHeads(normed, call.spec), block, call, weights)
  return gate ? mul(mixed, sigmoid(gate)) : mixed
}

/** Separates projections into queries, keys and values [B*T, (H + 2K) d], and the gates that follow each head's query, [B*T, H d]. */
export function takeGates(projected: Tensor2D, { heads, headSize, gatedQueries }: DecoderSpec): { plain: Tensor2D; gate?: Tensor2D } {
  if (!gatedQueries) return { plain: projected }
  const both = reshape(slice(projected, [0, 0], [-1, 2 * heads * headSize]), [-1, heads, 2, headSize])
  const half = (which: number): Tensor2D => reshape(slice(both, [0, 0, which, 0], [-1, -1, 1, -1]), [-1, heads * headSize])
  return { plain: concat([half(0), slice(projected, [0, 2 * heads * headSize], [-1, -1])], 1), gate: half(1) }
}

/** Applies the norms on queries and keys, if there are any, to projections [B*T, (H + 2K) d]. */
export function normalizeHeads(projected: Tensor2D, { queryNorm, keyNorm }: AttentionWeights<Matrix>, spec: DecoderSpec): Tensor2D {
  if (!queryNorm || !keyNorm) return projected
  const [queries, keys] = [spec.heads * spec.headSize, spec.keyValueHeads * spec.headSize]
  const columns = (first: number, count: number): Tensor2D => slice(projected, [0, first], [-1, count])
  const normed = [normalizeGroups(columns(0, queries), queryNorm), normalizeGroups(columns(queries, keys), keyNorm)]
  return concat([...normed, columns(queries + keys, keys)], 1)
}

/** Clamps queries, keys and values, if the model does. Queries carry the scale of scores, so their limit does too. */
function limitHeads(projected: Tensor2D, { projectionLimit: limit, heads, headSize, scoreScale }: DecoderSpec): Tensor2D {
  if (limit === undefined) return projected
  const queries = heads * headSize
  const clamp = (first: number, count: number, most: number): Tensor2D =>
    clipByValue(slice(projected, [0, first], [-1, count]), -most, most)
  return concat([clamp(0, queries, limit * scoreScale), clamp(queries, -1, limit)], 1)
}

/**
 * Mixes values by attention. Takes projected queries, keys and values [B*T, (H + 2K) d], and returns [B*T, H d]. The kind of products is
 * that of the attention's weights, but with a past or with weights in three parts it is float32.
 */
function mix(projected: Tensor2D, block: number, call: CallContext, { queryKeyValue: weight, sinks }: AttentionWeights<Matrix>): Tensor2D {
  const { spec, rotary, past } = call
  const { fused } = activeBackend()
  const { heads, keyValueHeads, scoreCap: cap } = spec
  const tables = rotary(block)
  const { cosine, sine } = tables
  const shape = { heads, keyValueHeads, cap, window: spec.slidingWindow(block) ?? 0 }
  if (past && fused?.attendPlaced && !sinks) {
    return fused.attendPlaced(projected, cosine, sine, { ...past.cache.of(block), rows: past.rows, slots: past.slots }, shape)
  }
  if (past) return mixWithCache(projected, tables, past, block, { spec, sinks: sinksOf(sinks, spec) })
  if (isPacked(weight) && weight.parts < 3) return attendInBf16(projected, tables, shape, weight.parts === 2)
  return attendHeads(projected, tables, shape, sinksOf(sinks, spec))
}

/** Arranges sinks by key/value head: [K, H/K]. */
const sinksOf = (sinks: Tensor1D | undefined, { keyValueHeads }: DecoderSpec): Tensor2D | undefined =>
  sinks && reshape<Rank.R2>(sinks, [keyValueHeads, -1])

/** Mixes values by causal attention in float32. Takes projections [B*T, (H + 2K) d] and tables of T rows, and returns [B*T, H d]. */
export function attendHeads(projected: Tensor2D, tables: RotaryTables, shape: AttentionShape, sinks?: Tensor2D): Tensor2D {
  const { fused } = activeBackend()
  if (fused?.attention && !sinks) return fused.attention(projected, tables.cosine, tables.sine, shape)
  return mixHeadsByStep(projected, tables, shape, (a, b, transposeB) => matMul(a, b, false, transposeB), sinks)
}

/** Does the same with 16-bit operands, split in two parts if `split` is set; in float32 if a runtime cannot multiply two such operands. */
export function attendInBf16(projected: Tensor2D, tables: RotaryTables, shape: AttentionShape, split: boolean): Tensor2D {
  const units = bf16Ops()
  if (!('products' in units)) return units.attention(projected, tables.cosine, tables.sine, shape, split)
  const product = units.products.multiplyBatch?.bind(units.products)
  return product ? mixHeadsByStep(projected, tables, shape, product) : attendHeads(projected, tables, shape)
}
