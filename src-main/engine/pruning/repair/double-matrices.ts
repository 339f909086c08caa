/** Matrices in float64, for backends without it. Everything is made of products of rows, whose entries follow each other in memory. */

/** A block of a matrix whose rows are `stride` entries long, from an entry on. */
interface Block {
  readonly values: Float64Array
  readonly stride: number
  readonly start: number
}

/** Rows and columns of the blocks that a factor and its solves take at a time. */
const side = 32

/** c - a b' for a [rows, depth] and b [columns, depth], written to c [rows, columns]. Throws `RangeError` if a block ends outside its matrix. */
export function subtractProduct(c: Block, a: Block, b: Block, rows: number, columns: number, depth: number): void {
  requireInside(c, rows, columns)
  requireInside(a, rows, depth)
  requireInside(b, columns, depth)
  // Eight sums at a time: a processor adds to them side by side.
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
  const x = a.values
  const y = b.values
  const x0 = a.start + i * a.stride
  const x1 = x0 + a.stride
  const x2 = x1 + a.stride
  const x3 = x2 + a.stride
  const y0 = b.start + j * b.stride
  const y1 = y0 + b.stride
  let s00 = 0
  let s01 = 0
  let s10 = 0
  let s11 = 0
  let s20 = 0
  let s21 = 0
  let s30 = 0
  let s31 = 0
  for (let k = 0; k < depth; k++) {
    const p = y[y0 + k] as number
    const q = y[y1 + k] as number
    const r0 = x[x0 + k] as number
    const r1 = x[x1 + k] as number
    const r2 = x[x2 + k] as number
    const r3 = x[x3 + k] as number
    s00 += r0 * p
    s01 += r0 * q
    s10 += r1 * p
    s11 += r1 * q
    s20 += r2 * p
    s21 += r2 * q
    s30 += r3 * p
    s31 += r3 * q
  }
  const own = c.start + i * c.stride + j
  subtractPair(c.values, own, s00, s01)
  subtractPair(c.values, own + c.stride, s10, s11)
  subtractPair(c.values, own + 2 * c.stride, s20, s21)
  subtractPair(c.values, own + 3 * c.stride, s30, s31)
}

function subtractPair(values: Float64Array, place: number, first: number, second: number): void {
  values[place] = (values[place] as number) - first
  values[place + 1] = (values[place + 1] as number) - second
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
      const [own, other, place] = [a.start + i * a.stride, b.start + j * b.stride, c.start + i * c.stride + j]
      let sum = 0
      for (let k = 0; k < depth; k++) sum += (a.values[own + k] as number) * (b.values[other + k] as number)
      c.values[place] = (c.values[place] as number) - sum
    }
  }
}

/** A matrix as one block. */
export const whole = (values: Float64Array, stride: number): Block => ({ values, stride, start: 0 })

/** Replaces the lower triangle of a positive definite matrix [size, size] by its Cholesky factor L. */
export function factorise(matrix: Float64Array, size: number): void {
  for (let first = 0; first < size; first += side) {
    const own = Math.min(side, size - first)
    const rows = whole(matrix, size)
    const before = { ...rows, start: first * size }
    subtractProduct({ ...rows, start: first * size + first }, before, before, size - first, own, first)
    for (let j = first; j < first + own; j++) {
      for (let i = j; i < size; i++) {
        let value = matrix[i * size + j] as number
        for (let k = first; k < j; k++) value -= (matrix[i * size + k] as number) * (matrix[j * size + k] as number)
        matrix[i * size + j] = i === j ? Math.sqrt(value) : value / (matrix[j * size + j] as number)
      }
    }
  }
}

/** Replaces rows r [rows, size] by r (L L')^-1. */
export function solveRows(factor: Float64Array, right: Float64Array, rows: number, size: number): void {
  solveLower(factor, right, rows, size)
  // L' is a lower factor, too, if the order of its rows and columns is reversed.
  const turned = new Float64Array(size * size)
  for (let i = 0; i < size; i++) for (let j = 0; j <= i; j++) turned[i * size + j] = factor[(size - 1 - j) * size + size - 1 - i] as number
  right.reverse()
  solveLower(turned, right, rows, size)
  right.reverse()
}

/** Replaces rows r [rows, size] by r L'^-1. */
function solveLower(factor: Float64Array, right: Float64Array, rows: number, size: number): void {
  for (let first = 0; first < size; first += side) {
    const last = Math.min(first + side, size)
    const solved = whole(right, size)
    const before = { ...whole(factor, size), start: first * size }
    subtractProduct({ ...solved, start: first }, solved, before, rows, last - first, first)
    for (let row = 0; row < rows; row++) {
      for (let j = first; j < last; j++) {
        let value = right[row * size + j] as number
        for (let k = first; k < j; k++) value -= (factor[j * size + k] as number) * (right[row * size + k] as number)
        right[row * size + j] = value / (factor[j * size + j] as number)
      }
    }
  }
}
