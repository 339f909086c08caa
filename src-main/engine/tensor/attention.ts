import {
  add,
  concat,
  div,
  exp,
  matMul,
  mul,
  type Rank,
  reshape,
  slice,
  softmax,
  split,
  sum,
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  tensor2d,
  tidy,
  zeros,
} from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import { batchedProduct } from './products.ts'

/** Query rows per product: the triangle above a chunk's last row is never computed. */
const mostRows = 256
const fewestRows = 128

export interface AttentionCall {
  /** Queries [B*K, H/K, T, d], scaled by 1/sqrt(d). */
  readonly query: Tensor4D
  /** Keys and values [B*K, S, d], cached positions first. */
  readonly key: Tensor3D
  readonly value: Tensor3D
  /** How many positions back a query sees, itself included. */
  readonly window: number | undefined
}

/** Causal attention (arXiv 1706.03762, Eq. 1) of T queries over the S = past + T positions up to their own: [B*K, H/K, T, d]. */
export function causalAttention(call: AttentionCall): Tensor4D {
  const tokens = call.query.shape[2]
  const rows = Math.min(tokens, mostRows, Math.max(fewestRows, Math.floor(tokens / 8)))
  const isWhole = call.key.shape[1] === tokens && tokens % rows === 0 && (call.window ?? tokens) >= tokens
  const { anyProducts, readsAreCheap } = activeBackend()
  const plain = anyProducts && readsAreCheap && isWhole ? attendWithoutMaximum(call, rows) : undefined
  return plain ?? tidy(() => joinRows(attendMasked(call)))
}

const joinRows = (chunks: Tensor4D[]): Tensor4D => (chunks.length === 1 ? (chunks[0] as Tensor4D) : concat(chunks, 2))

/** Between them, the sums of exponents and their products with values stay far from the ends of float32. */
const [leastSum, greatestSum] = [1e-30, 1e30]

/** Values weighted by exponents of scores, and the sums of these exponents, for some rows of queries. */
interface Weighted {
  readonly values: Tensor4D
  readonly total: Tensor4D
}

/**
 * Exponents without their row's maximum subtracted: one pass over the scores instead of several. Squares on the diagonal are masked
 * and computed all at once; what lies left of them needs no mask. Undefined where a sum leaves the safe range, which weights of
 * real models do not come near.
 */
function attendWithoutMaximum(call: AttentionCall, rows: number): Tensor4D | undefined {
  let safe = true
  const mixed = tidy(() => {
    const own = tidy(() => attendSquares(call, rows) as never) as Weighted
    const earlier = attendEarlier(call, rows)
    const total = earlier ? add<Tensor4D>(own.total, earlier.total) : own.total
    safe = total.dataSync().every((value) => value > leastSum && value < greatestSum)
    return div<Tensor4D>(earlier ? add(own.values, earlier.values) : own.values, total)
  })
  if (safe) return mixed
  mixed.dispose()
  return undefined
}

/** Each chunk of rows over its own positions. */
function attendSquares({ query, key, value }: AttentionCall, rows: number): Weighted {
  const [groups, perGroup, tokens, headSize] = query.shape
  const chunks = tokens / rows
  const shared = [groups, 1, chunks, rows, headSize]
  const scores: Tensor = matMul(reshape(query, [groups, perGroup, chunks, rows, headSize]), reshape(key, shared), false, true)
  const exponents: Tensor = mul(exp(scores), lowerTriangle(rows))
  return {
    values: reshape(matMul(exponents, reshape(value, shared)), [groups, perGroup, tokens, headSize]),
    total: reshape(sum(exponents, 4, true), [groups, perGroup, tokens, 1]),
  }
}

/** Each chunk of rows over all positions before its own; the first one sees none. */
function attendEarlier({ query, key, value }: AttentionCall, rows: number): Weighted | undefined {
  const [groups, perGroup, tokens, headSize] = query.shape
  if (tokens === rows) return undefined
  const [keys, values] = [key, value].map((x) => reshape<Rank.R4>(x, [groups, 1, tokens, headSize])) as [Tensor4D, Tensor4D]
  const sums: Tensor4D[] = [zeros([groups, perGroup, rows, headSize])]
  const totals: Tensor4D[] = [zeros([groups, perGroup, rows, 1])]
  for (const [index, chunk] of split(query, tokens / rows, 2).entries()) {
    if (index === 0) continue
    const [weighted, total] = tidy(() => {
      const before = (x: Tensor4D): Tensor4D => slice(x, [0, 0, 0, 0], [-1, -1, index * rows, -1])
      const exponents: Tensor4D = exp(matMul<Tensor4D>(chunk, before(keys), false, true))
      return [matMul(exponents, before(values)), sum<Tensor4D>(exponents, 3, true)]
    })
    sums.push(weighted)
    totals.push(total)
  }
  return { values: concat(sums, 2), total: concat(totals, 2) }
}

/** [size, size]: 1 on and below the diagonal, 0 above. */
function lowerTriangle(size: number): Tensor2D {
  const values = new Float32Array(size * size)
  for (let row = 0; row < size; row++) values.fill(1, row * size, row * size + row + 1)
  return tensor2d(values, [size, size])
}

/** The general way, chunk by chunk: cached positions, sliding windows, any number of tokens. */
function attendMasked(call: AttentionCall): Tensor4D[] {
  const tokens = call.query.shape[2]
  const step = tokens <= mostRows ? Math.max(1, Math.ceil(tokens / 2)) : mostRows
  const chunks: Tensor4D[] = []
  for (let row = 0; row < tokens; row += step) chunks.push(tidy(() => attendRows(call, row, Math.min(step, tokens - row))))
  return chunks
}

function attendRows({ query, key, value, window }: AttentionCall, row: number, rows: number): Tensor4D {
  const [groups, perGroup, tokens, headSize] = query.shape
  const past = key.shape[1] - tokens
  const chunk: Tensor3D = reshape(slice(query, [0, 0, row, 0], [-1, -1, rows, -1]), [groups, perGroup * rows, headSize])
  const last = past + row + rows
  const first = window === undefined ? 0 : Math.max(0, past + row - window + 1)
  const seen = last - first
  const keys: Tensor3D = slice(key, [0, first, 0], [-1, seen, -1])
  const values: Tensor3D = slice(value, [0, first, 0], [-1, seen, -1])
  let scores: Tensor4D = reshape(batchedProduct(chunk, keys, true), [groups, perGroup, rows, seen])
  const hidden = hiddenMask(past + row - first, rows, seen, window)
  if (hidden) scores = add(scores, hidden)
  const weights: Tensor3D = reshape(softmax(scores), [groups, perGroup * rows, seen])
  return reshape(batchedProduct(weights, values, false), [groups, perGroup, rows, headSize])
}

/** [rows, seen] to add to scores: row r stands at column `offset + r`. Undefined when nothing is hidden. */
function hiddenMask(offset: number, rows: number, seen: number, window: number | undefined): Tensor2D | undefined {
  if (rows === 1) return undefined
  const mask = new Float32Array(rows * seen)
  for (let r = 0; r < rows; r++) {
    const own = offset + r
    mask.fill(-1e9, r * seen + own + 1, (r + 1) * seen)
    if (window !== undefined && own - window + 1 > 0) mask.fill(-1e9, r * seen, r * seen + own - window + 1)
  }
  return tensor2d(mask, [rows, seen])
}
