import { matMul, scalar, slice, type Tensor, type Tensor2D, type Tensor3D, tensor2d, tidy, transpose, unstack } from '@tensorflow/tfjs-core'
import type { Handle, RawOperations } from '#engine/backend/raw-operations.ts'
import { doubleUpTo } from '../components/covariance.ts'
import type { NormalEquations } from './normal-equations.ts'

/** Sums held by the runtime in float64. */
interface Sums {
  readonly gram: Handle
  /** C' [K, D], the form that solves need. */
  readonly cross: Handle
  /** Half of |t|^2, as `L2Loss` returns it. */
  readonly square: Handle
}

/** Rows of a product in float32. */
export const rowsPerProduct = 2048

/** Normal equations that TensorFlow sums and solves in float64. Only weights and errors leave the runtime. */
export class RuntimeEquations implements NormalEquations {
  readonly #raw: RawOperations
  #sums: Sums | undefined

  constructor(raw: RawOperations) {
    this.#raw = raw
  }

  add(inputs: Tensor2D, targets: Tensor2D): void {
    const [rows, columns] = inputs.shape
    const rowsAtOnce = columns <= doubleUpTo ? rows : rowsPerProduct
    for (let first = 0; first < rows; first += rowsAtOnce) {
      const count = Math.min(rowsAtOnce, rows - first)
      const [z, t] = [inputs, targets].map((all) => slice(all, [first, 0], [count, -1])) as [Tensor2D, Tensor2D]
      this.#take(columns <= doubleUpTo ? this.#doubleProducts(z, t) : this.#products(z, t))
      z.dispose()
      t.dispose()
    }
  }

  #doubleProducts(inputs: Tensor2D, targets: Tensor2D): Sums {
    const step = new DoubleStep(this.#raw)
    const [z, t] = [step.widen(inputs), step.widen(targets)]
    const sums = {
      gram: step.keep(step.product(z, z, true, false)),
      cross: step.keep(step.product(z, t, true, false)),
      square: step.keep(step.run('L2Loss', [step.double], t)),
    }
    step.end()
    return sums
  }

  #products(z: Tensor2D, t: Tensor2D): Sums {
    const step = new DoubleStep(this.#raw)
    const [gram, cross] = [z, t].map((other) => matMul(z, other, true, false)) as [Tensor2D, Tensor2D]
    const sums = {
      gram: step.keep(step.widen(gram)),
      cross: step.keep(step.widen(cross)),
      square: step.keep(step.run('L2Loss', [step.double], step.widen(t))),
    }
    gram.dispose()
    cross.dispose()
    step.end()
    return sums
  }

  addSums(gram: Tensor2D, cross: Tensor2D, square: number): void {
    const step = new DoubleStep(this.#raw)
    // `L2Loss` returns half the sum of squares, so the other sums hold half as well.
    const half = scalar(square / 2)
    this.#take({ gram: step.keep(step.widen(gram)), cross: step.keep(step.transposed(cross)), square: step.keep(step.widen(half)) })
    half.dispose()
    step.end()
  }

  merge(other: RuntimeEquations): void {
    const sums = other.#sums
    other.#sums = undefined
    if (sums) this.#take(sums)
  }

  /** Adds sums and takes ownership of them. */
  #take(more: Sums): void {
    const before = this.#sums
    if (!before) {
      this.#sums = more
      return
    }
    const step = new DoubleStep(this.#raw)
    const sum = (key: keyof Sums) => step.keep(step.run('AddV2', [step.double], before[key], more[key]))
    this.#sums = { gram: sum('gram'), cross: sum('cross'), square: sum('square') }
    this.#raw.delete(before.gram, before.cross, before.square, more.gram, more.cross, more.square)
    step.end()
  }

  /** Solves the systems of all ridges as one batch, which the runtime spreads over its threads. */
  solve(weight: Tensor2D, ridges: readonly number[]): Tensor2D[] {
    const { gram, cross } = this.#needSums()
    const [outer, inner] = weight.shape
    const step = new DoubleStep(this.#raw)
    try {
      const diagonal = step.run('MatrixDiagPart', [step.double], gram)
      const trace = step.read(diagonal).reduce((sum, value) => sum + value, 0)
      if (trace === 0) return ridges.map(() => weight.clone())
      const count = ridges.length
      const shifts = step.column(ridges.map((ridge) => (ridge * trace) / inner))
      const raised = step.run('AddV2', [step.double], diagonal, shifts)
      const systems = step.last(step.repeated(gram, [count, inner, inner]), (repeated) =>
        step.run('MatrixSetDiag', [step.double], repeated, raised),
      )
      const factors = step.last(systems, (all) => step.run('Cholesky', [step.double], all))
      const old = step.transposed(weight)
      const missing = step.last(step.product(gram, old, false, false), (own) => step.run('Sub', [step.double], cross, own))
      const all = step.last(missing, (one) => step.repeated(one, [count, inner, outer]))
      const first = step.last(all, (right) => step.triangular(factors, right, false))
      const change = step.last(first, (right) => step.triangular(factors, right, true))
      step.drop(factors)
      const solved = step.last(change, (own) => step.run('AddV2', [step.double], old, own))
      return untransposed(step.last(solved, (own) => step.narrow(own, [count, inner, outer])))
    } finally {
      step.end()
    }
  }

  error(weight: Tensor2D): number {
    const { gram, cross, square } = this.#needSums()
    const step = new DoubleStep(this.#raw)
    try {
      const own = step.transposed(weight)
      const twice = step.run('AddV2', [step.double], cross, cross)
      const inner = step.run('Mul', [step.double], own, step.run('Sub', [step.double], step.product(gram, own, false, false), twice))
      const squares = step.run('AddV2', [step.double], square, square)
      const error = step.run('AddV2', [step.double], step.total(inner), squares)
      return (step.read(step.run('RealDiv', [step.double], error, squares))[0] ?? Number.NaN) as number
    } finally {
      step.end()
    }
  }

  #needSums(): Sums {
    if (!this.#sums) throw new Error('Nothing was added.')
    return this.#sums
  }

  dispose(): void {
    if (this.#sums) this.#raw.delete(this.#sums.gram, this.#sums.cross, this.#sums.square)
    this.#sums = undefined
  }
}

/** Returns the matrices of a batch, each transposed. Disposes of the batch. */
function untransposed(batch: Tensor3D): Tensor2D[] {
  const matrices = tidy(() => unstack(transpose(batch, [0, 2, 1])) as Tensor2D[])
  batch.dispose()
  return matrices
}

/** Runs operations in float64. `end` disposes of all their results except those passed to `keep`. */
class DoubleStep {
  readonly double: object
  readonly #raw: RawOperations
  readonly #made = new Set<Handle>()

  constructor(raw: RawOperations) {
    this.#raw = raw
    this.double = raw.type('T', 'float64')
  }

  run(name: string, attributes: readonly object[], ...inputs: readonly Handle[]): Handle {
    return this.#note(this.#raw.run(name, attributes, ...inputs))
  }

  product(a: Handle, b: Handle, transposeA: boolean, transposeB: boolean): Handle {
    const raw = this.#raw
    return this.run('MatMul', [this.double, raw.flag('transpose_a', transposeA), raw.flag('transpose_b', transposeB)], a, b)
  }

  /** Returns L^-1 b, or L'^-1 b with `adjoint`. */
  triangular(factor: Handle, b: Handle, adjoint: boolean): Handle {
    const raw = this.#raw
    return this.run('MatrixTriangularSolve', [this.double, raw.flag('lower', true), raw.flag('adjoint', adjoint)], factor, b)
  }

  widen(tensor: Tensor): Handle {
    return this.#note(this.#raw.cast(this.#raw.of(tensor), 'float32', 'float64'))
  }

  transposed(tensor: Tensor2D): Handle {
    const narrow = transpose(tensor)
    const wide = this.widen(narrow)
    narrow.dispose()
    return wide
  }

  /** Returns values as a column, [count, 1]. */
  column(values: readonly number[]): Handle {
    const narrow = tensor2d([...values], [values.length, 1])
    const wide = this.widen(narrow)
    narrow.dispose()
    return wide
  }

  /** Repeats a matrix `sizes[0]` times, to the shape `sizes`. */
  repeated(matrix: Handle, sizes: [number, number, number]): Handle {
    const raw = this.#raw
    return this.run('BroadcastTo', [this.double, raw.type('Tidx', 'int32')], matrix, this.#note(raw.words(Int32Array.from(sizes))))
  }

  /** Returns the sum over a matrix, a scalar. */
  total(matrix: Handle): Handle {
    const raw = this.#raw
    const axes = this.#note(raw.words(Int32Array.of(0, 1)))
    return this.run('Sum', [this.double, raw.type('Tidx', 'int32'), raw.flag('keep_dims', false)], matrix, axes)
  }

  narrow(value: Handle, shape: [number, number, number]): Tensor3D {
    return this.#raw.tensor(this.#raw.cast(value, 'float64', 'float32'), shape) as Tensor3D
  }

  read(value: Handle): Float32Array {
    return this.#raw.read(this.#note(this.#raw.cast(value, 'float64', 'float32')))
  }

  keep(value: Handle): Handle {
    this.#made.delete(value)
    return value
  }

  /** Runs the last operation that needs a value, then disposes of the value to save memory. */
  last<T>(value: Handle, use: (value: Handle) => T): T {
    const result = use(value)
    this.drop(value)
    return result
  }

  /** Disposes of a value before `end`. */
  drop(value: Handle): void {
    this.#made.delete(value)
    this.#raw.delete(value)
  }

  #note(value: Handle): Handle {
    this.#made.add(value)
    return value
  }

  end(): void {
    this.#raw.delete(...this.#made)
    this.#made.clear()
  }
}
