import {
  add,
  concat,
  mul,
  type Rank,
  reshape,
  slice,
  softmax,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  tensor2d,
  tidy,
} from '@tensorflow/tfjs-core'
import { capValues } from './activation.ts'

/** The maximum number of query rows per product. */
const maximumRows = 256

/**
 * The number of query rows per product: half of `tokens` if they are few, so that even these skip part of the triangle, else `maximumRows`.
 */
export const rowsPerChunk = (tokens: number): number => (tokens <= maximumRows ? Math.max(1, Math.ceil(tokens / 2)) : maximumRows)

export interface AttentionCall {
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
export function causalAttention(call: AttentionCall, product: BatchedProduct): Tensor4D {
  return tidy(() => {
    const chunks = attendInChunks(call, product)
    return chunks.length === 1 ? (chunks[0] as Tensor4D) : concat(chunks, 2)
  })
}

/** Computes one chunk of rows at a time, without the keys that come after the chunk's last row. */
function attendInChunks(call: AttentionCall, product: BatchedProduct): Tensor4D[] {
  const tokens = call.query.shape[2]
  const step = rowsPerChunk(tokens)
  const chunks: Tensor4D[] = []
  for (let row = 0; row < tokens; row += step) chunks.push(tidy(() => attendRows(call, product, row, Math.min(step, tokens - row))))
  return chunks
}

function attendRows(
  { query, key, value, window, cap, sinks }: AttentionCall,
  product: BatchedProduct,
  row: number,
  rows: number,
): Tensor4D {
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
