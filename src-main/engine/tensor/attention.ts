import {
  add,
  concat,
  div,
  exp,
  mul,
  reshape,
  slice,
  softmax,
  sum,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  tensor2d,
  tidy,
} from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import { batchedProduct } from './products.ts'

/** Query rows per product: the triangle above a chunk's last row is never computed. */
const chunkRows = 256

export interface AttentionCall {
  /** Queries [B*K, H/K, T, d], scaled by 1/sqrt(d). */
  readonly query: Tensor4D
  /** Keys and values [B*K, S, d], cached positions first. */
  readonly key: Tensor3D
  readonly value: Tensor3D
  /** How many positions back a query sees, itself included. */
  readonly window: number | undefined
}

/** Query rows [row, row + rows), which stand at positions [past + row, past + row + rows). */
interface Chunk {
  readonly query: Tensor3D
  readonly row: number
  readonly rows: number
  readonly past: number
}

/** Causal attention (arXiv 1706.03762, Eq. 1) of T queries over the S = past + T positions up to their own: [B*K, H/K, T, d]. */
export function causalAttention(call: AttentionCall): Tensor4D {
  const narrowed = call.window !== undefined && call.window < call.key.shape[1]
  if (activeBackend().readsAreCheap && !narrowed && call.query.shape[2] > 1) {
    const plain = attendWithoutMaximum(call)
    if (plain) return plain
  }
  return tidy(() => joinChunks(chunksOf(call).map((chunk) => attendMasked(call, chunk))))
}

function chunksOf({ query, key }: AttentionCall): Chunk[] {
  const [groups, perGroup, tokens, headSize] = query.shape
  const step = tokens <= chunkRows ? Math.max(1, Math.ceil(tokens / 2)) : chunkRows
  return Array.from({ length: Math.ceil(tokens / step) }, (_, index) => {
    const row = index * step
    const rows = Math.min(step, tokens - row)
    const part: Tensor3D = reshape(slice(query, [0, 0, row, 0], [-1, -1, rows, -1]), [groups, perGroup * rows, headSize])
    return { query: part, row, rows, past: key.shape[1] - tokens }
  })
}

const joinChunks = (chunks: Tensor4D[]): Tensor4D => (chunks.length === 1 ? (chunks[0] as Tensor4D) : concat(chunks, 2))

/** Between them, the sums of exponents and their products with values stay far from the ends of float32. */
const [leastSum, greatestSum] = [1e-30, 1e30]

/**
 * Exponents without their row's maximum subtracted: one pass over the scores instead of several, and no mask but on the diagonal.
 * Undefined where a row's sum leaves the safe range, which weights of real models do not come near.
 */
function attendWithoutMaximum(call: AttentionCall): Tensor4D | undefined {
  let safe = true
  const mixed = tidy(() => {
    const triangles = new Map<number, Tensor2D>()
    const chunks = chunksOf(call).map((chunk) => {
      const triangle = triangles.get(chunk.rows) ?? lowerTriangle(chunk.rows)
      triangles.set(chunk.rows, triangle)
      const { weighted, total } = attendRows(call, chunk, triangle)
      safe &&= total.dataSync().every((value) => value > leastSum && value < greatestSum)
      return div<Tensor4D>(weighted, total)
    })
    return joinChunks(chunks)
  })
  if (safe) return mixed
  mixed.dispose()
  return undefined
}

/** Values weighted by exponents [B*K, H/K, rows, d], and the sums of exponents [B*K, H/K, rows, 1]. */
function attendRows({ query, key, value }: AttentionCall, chunk: Chunk, triangle: Tensor2D): { weighted: Tensor4D; total: Tensor4D } {
  const [groups, perGroup, , headSize] = query.shape
  const { rows } = chunk
  const over = (first: number, count: number, visible?: Tensor2D) =>
    tidy(() => {
      const scores = batchedProduct(chunk.query, slice(key, [0, first, 0], [-1, count, -1]), true)
      let exponents: Tensor4D = exp(reshape(scores, [groups, perGroup, rows, count]))
      if (visible) exponents = mul(exponents, visible)
      const weights: Tensor3D = reshape(exponents, [groups, perGroup * rows, count])
      return { weighted: batchedProduct(weights, slice(value, [0, first, 0], [-1, count, -1]), false), total: sum<Tensor3D>(weights, 2, true) }
    })
  const own = over(chunk.past + chunk.row, rows, triangle)
  const earlier = chunk.past + chunk.row > 0 ? over(0, chunk.past + chunk.row) : undefined
  const weighted = earlier ? add(earlier.weighted, own.weighted) : own.weighted
  const total = earlier ? add(earlier.total, own.total) : own.total
  return { weighted: reshape(weighted, [groups, perGroup, rows, headSize]), total: reshape(total, [groups, perGroup, rows, 1]) }
}

/** [size, size]: 1 on and below the diagonal, 0 above. */
function lowerTriangle(size: number): Tensor2D {
  const values = new Float32Array(size * size)
  for (let row = 0; row < size; row++) values.fill(1, row * size, row * size + row + 1)
  return tensor2d(values, [size, size])
}

function attendMasked({ query, key, value, window }: AttentionCall, { query: chunk, row, rows, past }: Chunk): Tensor4D {
  const [groups, perGroup, , headSize] = query.shape
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
