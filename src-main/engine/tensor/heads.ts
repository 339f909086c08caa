import { matMul, reshape, slice, type Tensor2D, type Tensor3D, type Tensor4D, tidy, transpose } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { AttentionShape } from '#engine/backend/halves.ts'
import { type BatchedProduct, causalAttention } from './attention.ts'
import { type RotaryTables, rotate } from './rotary.ts'

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

/** Mixes values by causal attention in float32. Takes projections [B*T, (H + 2K) d] and tables of T rows, and returns [B*T, H d]. */
export function attendHeads(projected: Tensor2D, tables: RotaryTables, shape: AttentionShape, sinks?: Tensor2D): Tensor2D {
  const { fused } = activeBackend()
  if (fused?.attention && !sinks) return fused.attention(projected, tables.cosine, tables.sine, shape)
  return mixHeadsByStep(projected, tables, shape, (a, b, transposeB) => matMul(a, b, false, transposeB), sinks)
}

/** Does the same in separate operations instead of a fused one, with products by `product`. */
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
