import { outside } from '#contract/at.ts'

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
export function symmetricEigen(matrix: Float64Array, size: number): Eigen {
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
