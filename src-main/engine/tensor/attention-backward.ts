import {
  add,
  concat,
  mul,
  neg,
  pad,
  type Rank,
  reshape,
  slice,
  softmax,
  square,
  sub,
  sum,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { AttentionShape } from '#engine/backend/halves.ts'
import { capValues } from './activation.ts'
import { type AttentionCall, hiddenMask, rowsPerChunk } from './attention.ts'
import { splitHeads } from './heads.ts'
import { batchedCorrelation, batchedProduct, type Products } from './products.ts'
import { type RotaryTables, rotate } from './rotary.ts'
import { tidied } from './tidied.ts'

/** Gradients with respect to queries [G, H/K, rows, d], keys and values [G, T, d]. */
interface RowGradients {
  readonly query: Tensor4D
  readonly key: Tensor3D
  readonly value: Tensor3D
}

/**
 * The gradient of a loss with respect to projections [B*T, (H + 2K) d], given the gradient with respect to the result of `mixHeadsByStep`,
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
  const { fused, halves } = activeBackend()
  if (halves && products === 'bfloat16') return halves.attentionBackward(projected, tables.cosine, tables.sine, shape, gradient)
  if (fused?.attentionBackward) return fused.attentionBackward(projected, tables.cosine, tables.sine, shape, gradient)
  return tidy(() => {
    const { heads, keyValueHeads: groups } = shape
    const [rows, tokens] = [projected.shape[0], tables.cosine.shape[0]]
    const batch = rows / tokens
    const split = splitHeads(projected, tables, shape, batch)
    const size = split.key.shape[2]
    const byHead: Tensor4D = transpose(reshape(gradient, [batch, tokens, heads, size]), [0, 2, 1, 3])
    const outer: Tensor4D = reshape(byHead, [batch * groups, heads / groups, tokens, size])
    const found = attendBackward({ ...split, window: shape.window || undefined, cap: shape.cap }, outer)
    const byRotated = concat([reshape(found.query, [batch, heads, tokens, size]), reshape(found.key, [batch, groups, tokens, size])], 1)
    const back = rotate(byRotated as Tensor4D, { ...tables, sine: neg(tables.sine) })
    const all = concat([back, reshape(found.value, [batch, groups, tokens, size])], 1)
    return reshape(transpose(all, [0, 2, 1, 3]), [rows, (heads + 2 * groups) * size])
  })
}

/** Gradients with respect to the inputs of `causalAttention`, given the gradient with respect to its result [G, H/K, T, d]. */
function attendBackward(call: AttentionCall, gradient: Tensor4D): RowGradients {
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

function attendRowsBackward(
  { query, key, value, window, cap }: AttentionCall,
  gradient: Tensor4D,
  row: number,
  rows: number,
): RowGradients {
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
