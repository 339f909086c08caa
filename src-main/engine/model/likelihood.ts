import { add, exp, gather, max, mul, slice, sub, sum, type Tensor1D, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import { halfUnits, type Products } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/read.ts'
import { requireFinite } from './finite.ts'
import { capLogits, type HeadChunk, headLogits, type Vocabulary } from './vocabulary.ts'

/** Logits that are in memory at once, and rows of the product that they come from. */
const logitsPerTile = 2 ** 22
const rowsPerTile = 2048

/** A tile of logits: rows of hidden states by entries of a chunk of the head. */
export interface Tile {
  readonly firstRow: number
  readonly rows: number
  readonly firstEntry: number
  readonly entries: number
}

/** Logits [rows, entries] of some rows of hidden states over some entries of a chunk of the head; valid during the call. */
export interface LogitsTile {
  readonly logits: Tensor2D
  /** The slice of the head that they come from. */
  readonly head: HeadChunk
  readonly firstRow: number
}

/**
 * Hidden states by entries of the head in tiles, so that no [N, V] matrix exists: many rows by few entries of the vocabulary, which is the
 * better shape for a product, and slices of the head that nothing has to copy.
 */
export function* tilesOf(rows: number, size: number): Generator<Tile> {
  const most = Math.min(size, Math.floor(logitsPerTile / Math.min(rows, rowsPerTile)))
  for (let firstRow = 0; firstRow < rows; firstRow += rowsPerTile) {
    for (let firstEntry = 0; firstEntry < size; firstEntry += most) {
      yield { firstRow, rows: Math.min(rowsPerTile, rows - firstRow), firstEntry, entries: Math.min(most, size - firstEntry) }
    }
  }
}

/** The entries of a chunk of the head that a tile is made of: nothing is copied. The caller disposes of its tensors. */
export function headOf(chunk: HeadChunk, { firstEntry, entries }: Tile): HeadChunk {
  const weight: Tensor2D = slice(chunk.weight, [firstEntry, 0], [entries, -1])
  const bias: Tensor1D | undefined = chunk.bias && slice(chunk.bias, [firstEntry], [entries])
  return { ...chunk, first: chunk.first + firstEntry, weight, ...(bias ? { bias } : {}) }
}

/** Takes hidden [N, D] through a chunk of the head tile by tile. */
export function forEachTile(hidden: Tensor2D, chunk: HeadChunk, use: (tile: LogitsTile) => void): void {
  for (const tile of tilesOf(hidden.shape[0], chunk.weight.shape[0])) {
    tidy(() => {
      const head = headOf(chunk, tile)
      use({ logits: headLogits(slice(hidden, [tile.firstRow, 0], [tile.rows, -1]), head), head, firstRow: tile.firstRow })
    })
  }
}

/** The token that follows each position within its window; the last position repeats its own, to be left out by the caller. */
export function nextTokens(ids: Int32Array, tokens: number): Int32Array {
  return ids.map((id, i) => (i % tokens === tokens - 1 ? id : (ids[i + 1] ?? id)))
}

/**
 * Negative log-likelihood of each target under its row of final hidden states: hidden [N, D], targets [N], result [N] in nats.
 * Sums are kept in float64.
 */
export async function tokenLosses(
  vocabulary: Vocabulary,
  hidden: Tensor2D,
  targets: Int32Array,
  products: Products = 'float32',
): Promise<Float64Array> {
  const losses = new LogSums(targets.length, vocabulary, products)
  const own = new Float64Array(targets.length)
  await vocabulary.forEachHeadChunk((chunk) => {
    addTargetLogits(own, hidden, targets, chunk)
    losses.add(hidden, chunk)
  })
  const result = losses.values.map((logSum, row) => logSum - (own[row] ?? 0))
  requireFinite(result, 'The likelihood of the text')
  return result
}

/** Log of the sum of exponents of each row's logits over the vocabulary: hidden [N, D], result [N]. */
export async function logNormalizers(
  vocabulary: Vocabulary,
  hidden: readonly Tensor2D[],
  products: Products = 'float32',
): Promise<Float64Array[]> {
  const sums = hidden.map((rows) => new LogSums(rows.shape[0], vocabulary, products))
  await vocabulary.forEachHeadChunk((chunk) => {
    for (const [index, rows] of hidden.entries()) sums[index]?.add(rows, chunk)
  })
  return sums.map(({ values }) => values)
}

class LogSums {
  readonly values: Float64Array
  readonly #vocabulary: Vocabulary
  readonly #products: Products

  constructor(rows: number, vocabulary: Vocabulary, products: Products) {
    this.values = new Float64Array(rows).fill(Number.NEGATIVE_INFINITY)
    this.#vocabulary = vocabulary
    this.#products = products
  }

  add(hidden: Tensor2D, chunk: HeadChunk): void {
    if (this.#products === 'float32') this.#addTiles(hidden, chunk)
    else this.#addHalves(hidden, chunk, this.#products)
  }

  #addTiles(hidden: Tensor2D, chunk: HeadChunk): void {
    forEachTile(hidden, chunk, ({ logits, firstRow }) => {
      logSumExponents(logits).forEach((value, row) => {
        this.values[firstRow + row] = addLogs(this.values[firstRow + row] ?? Number.NEGATIVE_INFINITY, value)
      })
    })
  }

  /** The same by one operation, which stores no logits. */
  #addHalves(hidden: Tensor2D, chunk: HeadChunk, products: Exclude<Products, 'float32'>): void {
    this.#vocabulary.usePacked(chunk, products, ({ packed, bias, cap }) => {
      logsOf(valuesOf(() => halfUnits().exponents(hidden, packed, bias, cap))).forEach((value, row) => {
        this.values[row] = addLogs(this.values[row] ?? Number.NEGATIVE_INFINITY, value)
      })
    })
  }
}

/** Writes the logits of those targets that the chunk holds: hidden [N, D], targets [N]. */
export function addTargetLogits(own: Float64Array, hidden: Tensor2D, targets: Int32Array, chunk: HeadChunk): void {
  const size = chunk.weight.shape[0]
  const local = targets.map((id) => id - chunk.first)
  const logits = valuesOf(() => {
    const inside = tensor1d(
      local.map((id) => Math.min(size - 1, Math.max(0, id))),
      'int32',
    )
    const values = sum<Tensor1D>(mul(hidden, gather(chunk.weight, inside)), 1)
    return capLogits(chunk.bias ? add<Tensor1D>(values, gather(chunk.bias, inside)) : values, chunk.cap)
  })
  local.forEach((id, row) => {
    if (id >= 0 && id < size) own[row] = logits[row] ?? 0
  })
}

/** log(sum(exp(row))) of each row of logits [N, V]; the maximum is only subtracted when the plain sum overflows or vanishes. */
export function logSumExponents(logits: Tensor2D): Float64Array {
  const { fused } = activeBackend()
  if (fused) return logsOf(valuesOf(() => fused.exponents(logits)))
  const plain = valuesOf(() => sum(exp(logits), 1))
  if (plain.every((value) => value > 1e-30 && value < 1e38)) return Float64Array.from(plain, Math.log)
  const highest = max<Tensor2D>(logits, 1, true)
  const top = highest.dataSync()
  const rest = valuesOf(() => sum(exp(sub(logits, highest)), 1))
  highest.dispose()
  return Float64Array.from(top, (value, row) => value + Math.log(rest[row] ?? Number.NaN))
}

/** Logs of sums given as pairs: the largest exponent, the sum relative to it. */
function logsOf(pairs: ArrayLike<number>): Float64Array {
  return Float64Array.from({ length: pairs.length / 2 }, (_, row) => (pairs[2 * row] ?? 0) + Math.log(pairs[2 * row + 1] ?? Number.NaN))
}

/** log(exp(a) + exp(b)) without overflow. */
export function addLogs(a: number, b: number): number {
  if (a === Number.NEGATIVE_INFINITY) return b
  const high = Math.max(a, b)
  return high + Math.log(Math.exp(a - high) + Math.exp(b - high))
}
