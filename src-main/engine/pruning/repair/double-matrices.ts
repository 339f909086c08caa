/**
 * Float64 matrix operations for backends that have no float64. All of them multiply rows by rows, because the entries of a row are adjacent
 * in memory.
 */

/** A block of a row-major matrix. `start` is the index of its first entry, `stride` the length of the matrix rows. */
interface Block {
  readonly values: Float64Array
  readonly stride: number
  readonly start: number
}

/** Rows and columns that a factorisation or a solve handles at a time. */
const blockSize = 32

/**
 * Subtracts a b' from c [rows, columns], for a [rows, depth] and b [columns, depth]. Throws `RangeError` if a block ends outside its
 * matrix.
 */
export function subtractProduct(c: Block, a: Block, b: Block, rows: number, columns: number, depth: number): void {
  requireInside(c, rows, columns)
  requireInside(a, rows, depth)
  requireInside(b, columns, depth)
  // Tiles of 4 x 2 entries, because a processor can add to eight sums in parallel.
  for (let i = 0; i < rows; i += 4) {
    for (let j = 0; j < columns; j += 2) {
      if (i + 4 <= rows && j + 2 <= columns) subtractTile(c, a, b, i, j, depth)
      else subtractDots(c, a, b, [i, Math.min(i + 4, rows)], [j, Math.min(j + 2, columns)], depth)
    }
  }
}

function requireInside({ values, stride, start }: Block, rows: number, columns: number): void {
  if ((start % stride) + columns > stride || start + (rows - 1) * stride + columns > values.length)
    throw new RangeError(`a block of ${rows} x ${columns} ends outside its matrix`)
}

function subtractTile(c: Block, a: Block, b: Block, i: number, j: number, depth: number): void {
  const aValues = a.values
  const bValues = b.values
  const aRow0 = a.start + i * a.stride
  const aRow1 = aRow0 + a.stride
  const aRow2 = aRow1 + a.stride
  const aRow3 = aRow2 + a.stride
  const bRow0 = b.start + j * b.stride
  const bRow1 = bRow0 + b.stride
  let s00 = 0
  let s01 = 0
  let s10 = 0
  let s11 = 0
  let s20 = 0
  let s21 = 0
  let s30 = 0
  let s31 = 0
  for (let k = 0; k < depth; k++) {
    const b0 = bValues[bRow0 + k] as number
    const b1 = bValues[bRow1 + k] as number
    const a0 = aValues[aRow0 + k] as number
    const a1 = aValues[aRow1 + k] as number
    const a2 = aValues[aRow2 + k] as number
    const a3 = aValues[aRow3 + k] as number
    s00 += a0 * b0
    s01 += a0 * b1
    s10 += a1 * b0
    s11 += a1 * b1
    s20 += a2 * b0
    s21 += a2 * b1
    s30 += a3 * b0
    s31 += a3 * b1
  }
  const target = c.start + i * c.stride + j
  subtractPair(c.values, target, s00, s01)
  subtractPair(c.values, target + c.stride, s10, s11)
  subtractPair(c.values, target + 2 * c.stride, s20, s21)
  subtractPair(c.values, target + 3 * c.stride, s30, s31)
}

function subtractPair(values: Float64Array, index: number, first: number, second: number): void {
  values[index] = (values[index] as number) - first
  values[index + 1] = (values[index + 1] as number) - second
}

function subtractDots(
  c: Block,
  a: Block,
  b: Block,
  rows: readonly [number, number],
  columns: readonly [number, number],
  depth: number,
): void {
  for (let i = rows[0]; i < rows[1]; i++) {
    for (let j = columns[0]; j < columns[1]; j++) {
      const [aRow, bRow, target] = [a.start + i * a.stride, b.start + j * b.stride, c.start + i * c.stride + j]
      let sum = 0
      for (let k = 0; k < depth; k++) sum += (a.values[aRow + k] as number) * (b.values[bRow + k] as number)
      c.values[target] = (c.values[target] as number) - sum
    }
  }
}

/** Returns a whole matrix as one block. */
export const whole = (values: Float64Array, stride: number): Block => ({ values, stride, start: 0 })

/**
 * Replaces the lower triangle of a positive definite matrix [size, size] by its Cholesky factor L. Entries above the diagonal may change
 * too.
 */
export function factorise(matrix: Float64Array, size: number): void {
  for (let first = 0; first < size; first += blockSize) {
    const width = Math.min(blockSize, size - first)
    const rows = whole(matrix, size)
    const factored = { ...rows, start: first * size }
    subtractProduct({ ...rows, start: first * size + first }, factored, factored, size - first, width, first)
    for (let j = first; j < first + width; j++) {
      for (let i = j; i < size; i++) {
        let value = matrix[i * size + j] as number
        for (let k = first; k < j; k++) value -= (matrix[i * size + k] as number) * (matrix[j * size + k] as number)
        matrix[i * size + j] = i === j ? Math.sqrt(value) : value / (matrix[j * size + j] as number)
      }
    }
  }
}

/** Replaces each row x of `xs` [rows, size] by x (L L')^-1. `factor` [size, size] has L in its lower triangle. */
export function solveRows(factor: Float64Array, xs: Float64Array, rows: number, size: number): void {
  solveLower(factor, xs, rows, size)
  // L' with its rows and columns in reverse order is a lower triangle as well.
  const reversed = new Float64Array(size * size)
  for (let i = 0; i < size; i++)
    for (let j = 0; j <= i; j++) reversed[i * size + j] = factor[(size - 1 - j) * size + size - 1 - i] as number
  xs.reverse()
  solveLower(reversed, xs, rows, size)
  xs.reverse()
}

/** Replaces each row x of `xs` [rows, size] by x L'^-1. */
function solveLower(factor: Float64Array, xs: Float64Array, rows: number, size: number): void {
  for (let first = 0; first < size; first += blockSize) {
    const last = Math.min(first + blockSize, size)
    const solved = whole(xs, size)
    const factorRows = { ...whole(factor, size), start: first * size }
    subtractProduct({ ...solved, start: first }, solved, factorRows, rows, last - first, first)
    for (let row = 0; row < rows; row++) {
      for (let j = first; j < last; j++) {
        let value = xs[row * size + j] as number
        for (let k = first; k < j; k++) value -= (factor[j * size + k] as number) * (xs[row * size + k] as number)
        xs[row * size + j] = value / (factor[j * size + j] as number)
      }
    }
  }
}
