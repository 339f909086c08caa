import {
  add,
  concat,
  gather,
  mul,
  type Rank,
  reshape,
  slice,
  softmax,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  tensor1d,
  tensor2d,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { AttentionShape } from '#engine/backend/bf16-ops.ts'
import { capValues } from '#engine/tensor/activation.ts'
import { batchedProduct } from '#engine/tensor/products.ts'
import { type RotaryTables, rotate } from '#engine/tensor/rotary.ts'
import type { Past } from './cache.ts'

/** The maximum number of query rows per product. */
const maximumRows = 256

/**
 * The number of query rows per product: half of `tokens` if they are few, so that even these skip part of the triangle, else `maximumRows`.
 */
export const rowsPerChunk = (tokens: number): number => (tokens <= maximumRows ? Math.max(1, Math.ceil(tokens / 2)) : maximumRows)

export interface CausalCall {
  /** Queries [B*K, H/K, T, d], scaled. */
  readonly query: Tensor4D
  /** Keys and values [B*K, S, d], cached positions first. */
  readonly key: Tensor3D
  readonly value: Tensor3D
  /** How many positions back a query sees, including itself. */
  readonly window: number | undefined
  /** Scores s become cap * tanh(s / cap). */
  readonly cap?: number | undefined
  /** For each head, a logit that takes part in the softmax of its scores and is dropped afterwards: [K, H/K]. */
  readonly sinks?: Tensor2D | undefined
}

/** Multiplies G pairs of matrices: a [G, M, C] and b [G, C, N] (or [G, N, C] with `transposeB`): [G, M, N]. */
export type BatchedProduct = (a: Tensor3D, b: Tensor3D, transposeB: boolean) => Tensor3D

/**
 * Causal attention (arXiv 1706.03762, Eq. 1): each of T queries attends to the positions up to its own, of S = past + T. Returns [B*K, H/K,
 * T, d].
 */
export function causalAttention(call: CausalCall, product: BatchedProduct): Tensor4D {
  return tidy(() => {
    const chunks = attendInChunks(call, product)
    return chunks.length === 1 ? (chunks[0] as Tensor4D) : concat(chunks, 2)
  })
}

/** Computes one chunk of rows at a time, without the keys that come after the chunk's last row. */
function attendInChunks(call: CausalCall, product: BatchedProduct): Tensor4D[] {
  const tokens = call.query.shape[2]
  const step = rowsPerChunk(tokens)
  const chunks: Tensor4D[] = []
  for (let row = 0; row < tokens; row += step) chunks.push(tidy(() => attendRows(call, product, row, Math.min(step, tokens - row))))
  return chunks
}

function attendRows({ query, key, value, window, cap, sinks }: CausalCall, product: BatchedProduct, row: number, rows: number): Tensor4D {
  const [groups, perGroup, tokens, headSize] = query.shape
  const past = key.shape[1] - tokens
  const chunk: Tensor3D = reshape(slice(query, [0, 0, row, 0], [-1, -1, rows, -1]), [groups, perGroup * rows, headSize])
  const last = past + row + rows
  const first = window === undefined ? 0 : Math.max(0, past + row - window + 1)
  const seen = last - first
  const keys: Tensor3D = slice(key, [0, first, 0], [-1, seen, -1])
  const values: Tensor3D = slice(value, [0, first, 0], [-1, seen, -1])
  let scores: Tensor4D = capValues(reshape(product(chunk, keys, true), [groups, perGroup, rows, seen]), cap)
  const hidden = hiddenMask(past + row - first, rows, seen, window)
  if (hidden) scores = add(scores, hidden)
  const weights: Tensor3D = reshape(sinks ? softmaxWithSinks(scores, sinks) : softmax(scores), [groups, perGroup * rows, seen])
  return reshape(product(weights, values, false), [groups, perGroup, rows, headSize])
}

/** The softmax of scores [B*K, H/K, rows, seen], of which each head's sink takes a share. */
function softmaxWithSinks(scores: Tensor4D, sinks: Tensor2D): Tensor4D {
  const [groups, perGroup, rows, seen] = scores.shape
  const heads = sinks.shape[0]
  const first: Tensor3D = reshape(slice(scores, [0, 0, 0, 0], [-1, -1, -1, 1]), [groups / heads, heads * perGroup, rows])
  const all: Tensor4D = reshape(add(mul(first, 0), reshape(sinks, [1, heads * perGroup, 1])), [groups, perGroup, rows, 1])
  const joined: Tensor4D = concat([scores, all], 3)
  return slice<Rank.R4, Tensor4D>(softmax(joined), [0, 0, 0, 0], [-1, -1, -1, seen])
}

/**
 * A mask [rows, seen] to add to scores. The query in row r is at column `offset + r`. Undefined for a single row, which sees all columns.
 */
export function hiddenMask(offset: number, rows: number, seen: number, window: number | undefined): Tensor2D | undefined {
  if (rows === 1) return undefined
  const mask = new Float32Array(rows * seen)
  for (let r = 0; r < rows; r++) {
    const column = offset + r
    mask.fill(-1e9, r * seen + column + 1, (r + 1) * seen)
    if (window !== undefined && column - window + 1 > 0) mask.fill(-1e9, r * seen, r * seen + column - window + 1)
  }
  return tensor2d(mask, [rows, seen])
}

interface Heads {
  /** Queries [B*K, H/K, T, d]. */
  readonly query: Tensor4D
  /** Keys and values [B*K, T, d]. */
  readonly key: Tensor3D
  readonly value: Tensor3D
}

type HeadCounts = Pick<AttentionShape, 'heads' | 'keyValueHeads'>

/** Splits projections [B*T, (H + 2K) d] into queries, keys and values by head, and rotates queries and keys. */
export function splitHeads(projected: Tensor2D, tables: RotaryTables, { heads, keyValueHeads }: HeadCounts, batch: number): Heads {
  const all = heads + 2 * keyValueHeads
  const [tokens, headSize] = [projected.shape[0] / batch, projected.shape[1] / all]
  const byHead: Tensor4D = transpose(reshape(projected, [batch, tokens, all, headSize]), [0, 2, 1, 3])
  const rotated = rotate(takeHeads(byHead, 0, heads + keyValueHeads), tables)
  const query: Tensor4D = reshape(takeHeads(rotated, 0, heads), [batch * keyValueHeads, heads / keyValueHeads, tokens, headSize])
  const flat = [batch * keyValueHeads, tokens, headSize] as [number, number, number]
  const key: Tensor3D = reshape(takeHeads(rotated, heads, keyValueHeads), flat)
  const value: Tensor3D = reshape(takeHeads(byHead, heads + keyValueHeads, keyValueHeads), flat)
  return { query, key, value }
}

/**
 * Mixes values by causal attention in separate operations, with products by `product`. Takes projections [B*T, (H + 2K) d] and tables of T
 * rows, and returns [B*T, H d].
 */
export function mixHeadsByStep(
  projected: Tensor2D,
  tables: RotaryTables,
  shape: AttentionShape,
  product: BatchedProduct,
  sinks?: Tensor2D,
): Tensor2D {
  return tidy(() => {
    const [rows, tokens] = [projected.shape[0], tables.cosine.shape[0]]
    const batch = rows / tokens
    const split = splitHeads(projected, tables, shape, batch)
    const mixed = causalAttention({ ...split, window: shape.window || undefined, cap: shape.cap, sinks }, product)
    const headSize = mixed.shape[3]
    return reshape(transpose(reshape(mixed, [batch, shape.heads, tokens, headSize]), [0, 2, 1, 3]), [rows, shape.heads * headSize])
  })
}

/** Selects heads [first, first + count) of x [B, heads, T, d]. With a single sample they are contiguous, so nothing is copied. */
function takeHeads(x: Tensor4D, first: number, count: number): Tensor4D {
  const [batch, heads, tokens, headSize] = x.shape
  if (batch > 1) return slice(x, [0, first, 0, 0], [-1, count, -1, -1])
  const matrices: Tensor3D = reshape(x, [heads, tokens, headSize])
  return reshape(slice(matrices, [first, 0, 0], [count, -1, -1]), [1, count, tokens, headSize])
}

interface CachedHeads {
  readonly spec: DecoderSpec
  readonly sinks: Tensor2D | undefined
}

/** Computes the attention of each sequence's rows to all of its slots, for runtimes without an operation for it. */
export function mixWithCache(projected: Tensor2D, tables: RotaryTables, past: Past, block: number, { spec, sinks }: CachedHeads): Tensor2D {
  const { query, key, value } = splitHeads(projected, tables, spec, 1)
  const fresh = past.sequences.flatMap(({ slots, tokens }) => slots.slice(-tokens))
  const cached = past.cache.append(block, fresh, key, value)
  let first = 0
  const mixed = past.sequences.map(({ slots, tokens }): Tensor2D => {
    const places = tensor1d(slots.map(cached.placeOf), 'int32')
    const seen = { key: gather(cached.key, places, 1), value: gather(cached.value, places, 1) }
    const queries: Tensor4D = slice(query, [0, 0, first, 0], [-1, -1, tokens, -1])
    first += tokens
    const window = spec.slidingWindow(block)
    const heads = causalAttention({ query: queries, ...seen, window, cap: spec.scoreCap, sinks }, batchedProduct)
    return reshape(transpose(reshape(heads, [spec.heads, tokens, spec.headSize]), [1, 0, 2]), [tokens, spec.heads * spec.headSize])
  })
  return mixed.length === 1 ? (mixed[0] as Tensor2D) : concat(mixed, 0)
}
