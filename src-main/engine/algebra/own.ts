import { matMul, slice, type Tensor2D } from '@tensorflow/tfjs-core'
import { outside } from '#contract/at.ts'
import { valuesOf } from '#engine/tensor/sums.ts'

/**
 * Linear algebra in float64, for matrices stored row by row. Of a symmetric matrix, results may hold only the diagonal and the lower
 * triangle, and arguments must hold these.
 */
export interface Algebra {
  /**
   * Adds x'x to the symmetric `sums` [R, R], or x'z to `sums` [R, C] if `z` is another tensor, for x [rows, R] and z [rows, C]. If `exact`,
   * which is the default up to `doubleUpTo` columns, products are computed in float64. Otherwise products of some rows are computed in
   * float32 and then added: they are as exact as the activations, which are float32 themselves.
   */
  addProducts(sums: Float64Array, x: Tensor2D, z?: Tensor2D, exact?: boolean): void
  /** Returns w g, for w [rows, size] and the symmetric g [size, size]. */
  timesSymmetric(w: Float64Array, g: Float64Array, size: number): Float64Array
  /**
   * Returns b (g + shift 1)^-1, for b [rows, size] and the symmetric, positive definite g [size, size], of which it may overwrite the upper
   * triangle.
   */
  solve(g: Float64Array, shift: number, b: Float64Array, size: number): Float64Array
  /** Returns the eigenvectors of the symmetric g [size, size], which it may overwrite. */
  eigen(g: Float64Array, size: number): Eigen
}

/** Products of at most this many columns are summed in float64 unless asked otherwise. */
export const doubleUpTo = 256

/** Whether the sums of these products are exact unless asked otherwise. */
export const isNarrow = (x: Tensor2D, z: Tensor2D): boolean => Math.min(x.shape[1], z.shape[1]) <= doubleUpTo

/** Rows of a product in float32, and where exact sums are asked for, but float64 would be many times slower. */
const [rowsPerProduct, rowsIfExact] = [2048, 256]

/** Our own algebra, for machines without OpenBLAS. The runtime computes products in float32; everything else happens in this process. */
export const ownAlgebra: Algebra = {
  addProducts(sums, x, z = x, exact = isNarrow(x, z)) {
    if (exact && isNarrow(x, z)) return addDoubles(sums, x, z)
    forEachRows(x, z, exact ? rowsIfExact : rowsPerProduct, (left, right) =>
      addEntries(
        sums,
        valuesOf(() => matMul(left, right, true, false)),
      ),
    )
  },
  timesSymmetric(w, g, size) {
    const negative = new Float64Array(w.length)
    subtractProduct(whole(negative, size), whole(w, size), whole(filled(g, size), size), w.length / size, size, size)
    return negative.map((value) => -value)
  },
  solve(g, shift, b, size) {
    const factor = g.slice()
    for (let i = 0; i < size; i++) factor[i * (size + 1)] = entry(g, i * (size + 1)) + shift
    factorise(factor, size)
    const solved = b.slice()
    solveRows(factor, solved, b.length / size, size)
    return solved
  },
  eigen: (g, size) => symmetricEigen(filled(g, size), size),
}

/** Adds the entries of `more` to those of `sums`, from index `from` up to `to`. */
export function addEntries(sums: Float64Array, more: ArrayLike<number>, from = 0, to = sums.length): void {
  for (let i = from; i < to; i++) sums[i] = entry(sums, i) + entry(more, i)
}

/** Calls `visit` with `rowsAtOnce` rows of x and z at a time, and disposes of them afterwards. */
export function forEachRows(x: Tensor2D, z: Tensor2D, rowsAtOnce: number, visit: (x: Tensor2D, z: Tensor2D) => void): void {
  const rows = x.shape[0]
  for (let first = 0; first < rows; first += rowsAtOnce) {
    const some = (all: Tensor2D) => slice(all, [first, 0], [Math.min(rowsAtOnce, rows - first), -1]) as Tensor2D
    const left = some(x)
    const right = z === x ? left : some(z)
    visit(left, right)
    left.dispose()
    if (right !== left) right.dispose()
  }
}

function addDoubles(sums: Float64Array, x: Tensor2D, z: Tensor2D): void {
  const [rows, width] = x.shape
  const columns = z.shape[1]
  const transposed = (tensor: Tensor2D, sign: number) => {
    const values = tensor.dataSync()
    const size = tensor.shape[1]
    return Float64Array.from({ length: values.length }, (_, i) => sign * entry(values, (i % rows) * size + Math.floor(i / rows)))
  }
  subtractProduct(whole(sums, columns), whole(transposed(x, -1), rows), whole(transposed(z, 1), rows), width, columns, rows)
}

/** A symmetric matrix with both triangles. */
function filled(g: Float64Array, size: number): Float64Array {
  const both = g.slice()
  for (let i = 0; i < size; i++) for (let j = 0; j < i; j++) both[j * size + i] = entry(g, i * size + j)
  return both
}

const entry = (values: ArrayLike<number>, index: number): number => values[index] ?? outside(values, index)

// All of what follows multiplies rows by rows, because the entries of a row are adjacent in memory.

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
function subtractProduct(c: Block, a: Block, b: Block, rows: number, columns: number, depth: number): void {
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
const whole = (values: Float64Array, stride: number): Block => ({ values, stride, start: 0 })

/**
 * Replaces the lower triangle of a positive definite matrix [size, size] by its Cholesky factor L. Entries above the diagonal may change
 * too.
 */
function factorise(matrix: Float64Array, size: number): void {
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
function solveRows(factor: Float64Array, xs: Float64Array, rows: number, size: number): void {
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

/** Eigenvectors of a symmetric matrix, by descending eigenvalue. */
interface Eigen {
  readonly values: Float64Array
  /** Row `i` is the vector of value `i`, of length 1: [D, D]. */
  readonly vectors: Float64Array
}

/**
 * Eigenvalues and eigenvectors of a symmetric matrix [size, size] in float64: Householder reflections to tridiagonal form, then the
 * implicit QL iteration (Golub and Van Loan, Matrix Computations, 8.3). Deterministic; cubic in the size.
 */
function symmetricEigen(matrix: Float64Array, size: number): Eigen {
  const z = matrix.slice()
  const diagonal = new Float64Array(size)
  const offDiagonal = new Float64Array(size)
  tridiagonalize(z, size, diagonal, offDiagonal)
  iterate(z, size, diagonal, offDiagonal)
  const order = [...diagonal.keys()].sort((a, b) => at(diagonal, b) - at(diagonal, a) || a - b)
  const vectors = new Float64Array(size * size)
  order.forEach((column, row) => {
    for (let i = 0; i < size; i++) vectors[row * size + i] = at(z, column * size + i)
  })
  return { values: Float64Array.from(order, (column) => at(diagonal, column)), vectors }
}

/**
 * Reduces the symmetric matrix `a` to tridiagonal form, whose entries are written to `diagonal` and `offDiagonal[1..]`. Then replaces `a`
 * by the transformation, transposed: its rows hold the vectors, so that the inner loops run along memory.
 */
function tridiagonalize(a: Float64Array, size: number, diagonal: Float64Array, offDiagonal: Float64Array): void {
  const q = new Float64Array(size * size)
  for (let i = 0; i < size; i++) q[i * size + i] = 1
  const v = new Float64Array(size)
  const p = new Float64Array(size)
  for (let column = 0; column < size - 2; column++) {
    const first = column + 1
    let length = 0
    for (let i = first; i < size; i++) {
      v[i] = at(a, i * size + column)
      length += at(v, i) ** 2
    }
    length = Math.sqrt(length)
    const head = at(v, first)
    const pivot = head > 0 ? -length : length
    offDiagonal[first] = pivot
    v[first] = head - pivot
    let square = 0
    for (let i = first; i < size; i++) square += at(v, i) ** 2
    if (square === 0) continue
    reflectBothSides(a, size, v, p, first, square)
    reflectRows(q, size, v, first, square)
  }
  if (size > 1) offDiagonal[size - 1] = at(a, (size - 1) * size + size - 2)
  for (let i = 0; i < size; i++) diagonal[i] = at(a, i * size + i)
  a.set(q)
}

/** Replaces a by H a H with H = 1 - 2 v v' / v'v, in the rows and columns that start at `first`. */
function reflectBothSides(a: Float64Array, size: number, v: Float64Array, p: Float64Array, first: number, square: number): void {
  let overlap = 0
  for (let i = first; i < size; i++) {
    let sum = 0
    for (let j = first; j < size; j++) sum += at(a, i * size + j) * at(v, j)
    p[i] = (2 * sum) / square
    overlap += at(v, i) * at(p, i)
  }
  for (let i = first; i < size; i++) p[i] = at(p, i) - (overlap / square) * at(v, i)
  for (let i = first; i < size; i++) {
    for (let j = first; j < size; j++) a[i * size + j] = at(a, i * size + j) - at(v, i) * at(p, j) - at(p, i) * at(v, j)
  }
}

/** Replaces q by H q. Vectors are kept as rows. */
function reflectRows(q: Float64Array, size: number, v: Float64Array, first: number, square: number): void {
  const sums = new Float64Array(size)
  for (let i = first; i < size; i++) {
    for (let j = 0; j < size; j++) sums[j] = at(sums, j) + at(v, i) * at(q, i * size + j)
  }
  for (let i = first; i < size; i++) {
    const factor = (2 * at(v, i)) / square
    for (let j = 0; j < size; j++) q[i * size + j] = at(q, i * size + j) - factor * at(sums, j)
  }
}

/** Diagonalises the tridiagonal matrix by implicit QL steps. Each rotation is applied to two rows of `z`. */
function iterate(z: Float64Array, size: number, d: Float64Array, offDiagonal: Float64Array): void {
  const e = new Float64Array(size)
  for (let i = 1; i < size; i++) e[i - 1] = at(offDiagonal, i)
  for (let start = 0; start < size; start++) {
    for (let attempt = 0; ; attempt++) {
      let end = start
      while (end < size - 1 && Math.abs(at(e, end)) > Number.EPSILON * (Math.abs(at(d, end)) + Math.abs(at(d, end + 1)))) end++
      if (end === start) break
      if (attempt === 60) throw new Error(`The eigenvalue iteration did not converge at ${start} of ${size}.`)
      stepQl(z, size, d, e, start, end)
    }
  }
}

function stepQl(z: Float64Array, size: number, d: Float64Array, e: Float64Array, start: number, end: number): void {
  const half = (at(d, start + 1) - at(d, start)) / (2 * at(e, start))
  const root = Math.hypot(half, 1)
  let g = at(d, end) - at(d, start) + at(e, start) / (half + (half >= 0 ? root : -root))
  let [sine, cosine, shift] = [1, 1, 0]
  for (let i = end - 1; i >= start; i--) {
    const f = sine * at(e, i)
    const b = cosine * at(e, i)
    const r = Math.hypot(f, g)
    e[i + 1] = r
    if (r === 0) {
      d[i + 1] = at(d, i + 1) - shift
      e[end] = 0
      return
    }
    sine = f / r
    cosine = g / r
    g = at(d, i + 1) - shift
    const t = (at(d, i) - g) * sine + 2 * cosine * b
    shift = sine * t
    d[i + 1] = g + shift
    g = cosine * t - b
    rotateRows(z, size, i, sine, cosine)
  }
  d[start] = at(d, start) - shift
  e[start] = g
  e[end] = 0
}

function rotateRows(z: Float64Array, size: number, row: number, sine: number, cosine: number): void {
  const [low, high] = [row * size, (row + 1) * size]
  for (let k = 0; k < size; k++) {
    const above = at(z, high + k)
    const below = at(z, low + k)
    z[high + k] = sine * below + cosine * above
    z[low + k] = cosine * below - sine * above
  }
}

const at = (array: Float64Array, index: number): number => array[index] ?? outside(array, index)
