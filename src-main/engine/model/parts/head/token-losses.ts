import {
  add,
  div,
  exp,
  gather,
  max,
  mul,
  slice,
  sub,
  sum,
  type Tensor1D,
  type Tensor2D,
  tensor1d,
  tensor2d,
  tidy,
  topk,
} from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { requireFinite } from '#engine/model/finite.ts'
import { breathe } from '#engine/model/walk.ts'
import { capValues } from '#engine/tensor/activation.ts'
import { bf16Ops } from '#engine/tensor/composed-bf16-ops.ts'
import { type Products, takesPacked } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { type HeadChunk, headLogits, type PackedHead, type Vocabulary } from './embedding-and-head.ts'

/** The most logits of one model in memory at once. */
export const logitsPerTile = 2 ** 22
/** The most rows of a product with a part of the head. */
const rowsPerTile = 2048

/** A tile of the matrix of logits: some rows of hidden states by some entries of a chunk of the head. */
export interface Tile {
  readonly firstRow: number
  readonly rows: number
  readonly firstEntry: number
  readonly entries: number
}

/** The logits of a tile, [rows, entries]. They are valid during the call only. */
interface LogitsTile {
  readonly logits: Tensor2D
  /** The slice of the head that the logits were computed with. */
  readonly head: HeadChunk
  readonly firstRow: number
}

/**
 * Divides the logits into tiles of rows of hidden states by entries of the head, so that no [N, V] matrix exists. Tiles have many rows and
 * few entries of the vocabulary, because products of that shape are faster. They use slices of the head without copying.
 */
export function* tilesOf(rows: number, size: number): Generator<Tile> {
  const width = Math.min(size, Math.floor(logitsPerTile / Math.min(rows, rowsPerTile)))
  for (let firstRow = 0; firstRow < rows; firstRow += rowsPerTile) {
    for (let firstEntry = 0; firstEntry < size; firstEntry += width) {
      yield { firstRow, rows: Math.min(rowsPerTile, rows - firstRow), firstEntry, entries: Math.min(width, size - firstEntry) }
    }
  }
}

/** Slices a chunk of the head for a tile without copying. The caller disposes of the result's tensors. */
export function headOf(chunk: HeadChunk, { firstEntry, entries }: Tile): HeadChunk {
  const weight: Tensor2D = slice(chunk.weight, [firstEntry, 0], [entries, -1])
  const bias: Tensor1D | undefined = chunk.bias && slice(chunk.bias, [firstEntry], [entries])
  return { ...chunk, first: chunk.first + firstEntry, weight, ...(bias ? { bias } : {}) }
}

/** How hidden states go through the head. */
export interface HeadPass {
  /** Default: float32. */
  readonly products?: Products
  readonly signal?: AbortSignal | undefined
  /** Whether results are only used to rank. Then a value that is not finite is not an error, because the caller recomputes it. */
  readonly ranks?: boolean
}

/** Takes hidden states [N, D] through a chunk of the head tile by tile. Between tiles, timers and messages are handled. */
export async function forEachTile(
  hidden: Tensor2D,
  chunk: HeadChunk,
  { products = 'float32', signal }: HeadPass,
  use: (tile: LogitsTile) => void,
): Promise<void> {
  for (const tile of tilesOf(hidden.shape[0], chunk.weight.shape[0])) {
    await breathe()
    signal?.throwIfAborted()
    tidy(() => {
      const head = headOf(chunk, tile)
      use({ logits: headLogits(slice(hidden, [tile.firstRow, 0], [tile.rows, -1]), head, products), head, firstRow: tile.firstRow })
    })
  }
}

/** The token that follows each position within its window of `tokens` tokens; -1 after the last one, whose loss has no meaning. */
export function nextTokens(ids: Int32Array, tokens: number): Int32Array {
  return ids.map((_, position) => ((position + 1) % tokens === 0 ? -1 : at(ids, position + 1)))
}

/**
 * The negative log-likelihood of each target under its row of final hidden states: hidden [N, D], targets [N], result [N], in nats.
 * Sums are in float64.
 */
export async function tokenLosses(
  vocabulary: Vocabulary,
  hidden: Tensor2D,
  targets: Int32Array,
  how: HeadPass = {},
): Promise<Float64Array> {
  const [losses] = await allTokenLosses(vocabulary, [hidden], targets, how)
  return losses as Float64Array
}

/** The same for several matrices of hidden states with the same targets. */
export async function allTokenLosses(
  vocabulary: Vocabulary,
  hidden: readonly Tensor2D[],
  targets: Int32Array,
  how: HeadPass = {},
): Promise<Float64Array[]> {
  const targetLogits = hidden.map(() => new Float64Array(targets.length))
  const logSums = await throughHead(vocabulary, hidden, how, (chunk) => {
    for (const [index, rows] of hidden.entries()) addTargetLogits(targetLogits[index] as Float64Array, rows, targets, chunk)
  })
  return logSums.map((sums, index) => {
    const losses = sums.map((sum, row) => sum - at(at(targetLogits, index), row))
    if (!how.ranks) requireFinite(losses, 'The likelihood of the text')
    return losses
  })
}

/**
 * The logarithm of the sum of each row's exponentials of logits over the vocabulary, for several matrices of hidden states [N, D]: [N]
 * each.
 */
export const logNormalizers = (vocabulary: Vocabulary, hidden: readonly Tensor2D[], how: HeadPass = {}): Promise<Float64Array[]> =>
  throughHead(vocabulary, hidden, how, () => undefined)

/** Computes these logarithms, and calls `look` with each chunk of the head on the way. */
async function throughHead(
  vocabulary: Vocabulary,
  hidden: readonly Tensor2D[],
  { products = 'float32', signal }: HeadPass,
  look: (chunk: HeadChunk) => void,
): Promise<Float64Array[]> {
  const logSums = hidden.map((rows) => new Float64Array(rows.shape[0]).fill(Number.NEGATIVE_INFINITY))
  const addAll = async (add: (rows: Tensor2D, own: Float64Array) => void | Promise<void>) => {
    for (const [index, rows] of hidden.entries()) {
      await breathe()
      signal?.throwIfAborted()
      await add(rows, logSums[index] as Float64Array)
    }
  }
  await vocabulary.forEachHeadChunk(async (chunk) => {
    look(chunk)
    if (!takesPacked(chunk.weight, products)) return addAll((rows, own) => addTiles(own, rows, chunk, signal))
    return vocabulary.usePacked(chunk, products, (slice) => addAll((rows, own) => addPacked(own, rows, slice)))
  })
  return logSums
}

function addTiles(own: Float64Array, hidden: Tensor2D, chunk: HeadChunk, signal: AbortSignal | undefined): Promise<void> {
  return forEachTile(hidden, chunk, { signal }, ({ logits, firstRow }) => addLogSums(own, logSumExponents(logits), firstRow))
}

/** Does the same by one operation, which stores no logits. */
function addPacked(own: Float64Array, hidden: Tensor2D, { packed, bias, cap }: PackedHead): void {
  addLogSums(own, logsOf(valuesOf(() => bf16Ops().exponents(hidden, packed, bias, cap))))
}

function addLogSums(own: Float64Array, more: Float64Array, firstRow = 0): void {
  more.forEach((value, row) => {
    own[firstRow + row] = addLogs(own[firstRow + row] ?? Number.NEGATIVE_INFINITY, value)
  })
}

/** Writes the logits of those targets [N] that are in the chunk into `to` [N]. `hidden` is [N, D]. */
export function addTargetLogits(to: Float64Array, hidden: Tensor2D, targets: Int32Array, chunk: HeadChunk): void {
  const size = chunk.weight.shape[0]
  const local = targets.map((id) => id - chunk.first)
  const logits = valuesOf(() => {
    const inside = tensor1d(
      local.map((id) => Math.min(size - 1, Math.max(0, id))),
      'int32',
    )
    const values = sum<Tensor1D>(mul(hidden, gather(chunk.weight, inside)), 1)
    return capValues(chunk.bias ? add<Tensor1D>(values, gather(chunk.bias, inside)) : values, chunk.cap)
  })
  local.forEach((id, row) => {
    if (id >= 0 && id < size) to[row] = at(logits, row)
  })
}

/**
 * Computes log(sum(exp(row))) of each row of logits [N, V]. Without fused operations, the maximum is subtracted only if the plain sum
 * overflows or vanishes.
 */
export function logSumExponents(logits: Tensor2D): Float64Array {
  const exponents = activeBackend().fused?.exponents
  if (exponents) return logsOf(valuesOf(() => exponents(logits)))
  const plain = valuesOf(() => sum(exp(logits), 1))
  if (plain.every((value) => value > 1e-30 && value < 1e38)) return Float64Array.from(plain, Math.log)
  const highest = max<Tensor2D>(logits, 1, true)
  const top = highest.dataSync()
  const rest = valuesOf(() => sum(exp(sub(logits, highest)), 1))
  highest.dispose()
  return Float64Array.from(top, (value, row) => value + Math.log(rest[row] ?? Number.NaN))
}

/** Computes log(sum) from pairs: a logit m near the largest one, and the sum of exponentials relative to it. */
function logsOf(pairs: ArrayLike<number>): Float64Array {
  return Float64Array.from({ length: pairs.length / 2 }, (_, row) => at(pairs, 2 * row) + Math.log(pairs[2 * row + 1] ?? Number.NaN))
}

/** log(exp(a) + exp(b)) without overflow. */
export function addLogs(a: number, b: number): number {
  if (a === Number.NEGATIVE_INFINITY) return b
  const high = Math.max(a, b)
  return high + Math.log(Math.exp(a - high) + Math.exp(b - high))
}

/** A comparison of a model's logits [N, C] with the dense model's, over some entries of the vocabulary. */
export interface ComparedLogits {
  /** Logs of the sums of exponents, [N] each. */
  readonly denseLog: ArrayLike<number>
  readonly ownLog: ArrayLike<number>
  /** Mean difference of the logits (dense minus own), weighted by the dense distribution over these entries, [N]. */
  readonly shift: ArrayLike<number>
  /** The model's largest logits [N, count] and their columns; ties go to the lower column. */
  readonly count: number
  readonly highest: ArrayLike<number>
  readonly columns: ArrayLike<number>
}

/**
 * Compares logits [N, C] row by row, and finds up to `most` of the largest in each row. For the dense model itself, pass the same tensor
 * twice.
 */
export function compareLogits(dense: Tensor2D, own: Tensor2D, most: number): ComparedLogits {
  const compare = activeBackend().fused?.compareLogits
  const [rows, entries] = own.shape
  const count = Math.min(most, entries)
  if (!compare) return compareStepByStep(dense, own, count)
  const values = valuesOf(() => compare(dense, own, count))
  const width = 5 + 2 * count
  const column = (place: number) => Float64Array.from({ length: rows }, (_, row) => at(values, row * width + place))
  const log = (largest: Float64Array, total: Float64Array) => largest.map((value, row) => value + Math.log(at(total, row)))
  const list = (from: number) =>
    Float32Array.from({ length: rows * count }, (_, i) => at(values, Math.floor(i / count) * width + from + (i % count)))
  return {
    denseLog: log(column(0), column(1)),
    ownLog: log(column(2), column(3)),
    shift: column(4),
    count,
    highest: list(5),
    columns: list(5 + count),
  }
}

/** Does the same with the runtime's own operations. */
function compareStepByStep(dense: Tensor2D, own: Tensor2D, count: number): ComparedLogits {
  const { values, indices } = topk(own, count)
  const denseLog = logSumExponents(dense)
  const shift = valuesOf(() => {
    const weights = exp(sub(dense, tensor2d(Float32Array.from(denseLog), [dense.shape[0], 1])))
    return div(sum(mul(weights, sub(dense, own)), 1), sum(weights, 1))
  })
  const found = { denseLog, ownLog: logSumExponents(own), shift, count, highest: values.dataSync(), columns: indices.dataSync() }
  values.dispose()
  indices.dispose()
  return found
}
