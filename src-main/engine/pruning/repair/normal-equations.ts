import { type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { at, outside } from '#contract/at.ts'
import { algebra } from '#engine/algebra/openblas.ts'
import { type Algebra, addEntries, forEachRows } from '#engine/algebra/own.ts'

interface Sums {
  readonly inner: number
  readonly outer: number
  /** G, [K, K], of which only the diagonal and the lower triangle count. */
  readonly gram: Float64Array
  /** C, [D, K]. */
  readonly cross: Float64Array
  square: number
}

/** Rows whose squares are read at a time. */
const rowsAtOnce = 2048

/**
 * The least-squares problem of one projection W [D, K], for inputs z [N, K] and target outputs t [N, D]. It is held as the sums G = z'z, C
 * = t'z and |t|^2. Sums and solves are in float64.
 */
export class NormalEquations {
  readonly #algebra: Algebra
  #sums: Sums | undefined

  constructor(own: Algebra = algebra()) {
    this.#algebra = own
  }

  /** Adds rows: inputs [N, K], targets [N, D]. */
  add(inputs: Tensor2D, targets: Tensor2D): void {
    const sums = this.#sumsOf(inputs.shape[1], targets.shape[1])
    this.#algebra.addProducts(sums.gram, inputs)
    this.#algebra.addProducts(sums.cross, targets, inputs)
    forEachRows(targets, targets, rowsAtOnce, (some) => {
      for (const value of some.dataSync()) sums.square += value ** 2
    })
  }

  /** Takes over the sums of other equations, which must not be used afterwards. */
  merge(other: NormalEquations): void {
    if (!this.#sums) this.#sums = other.#sums
    else if (other.#sums) addTo(this.#sums, other.#sums)
  }

  /**
   * Returns W + (C - W G)(G + ridge * tr(G)/K * 1)^-1, [D, K]. A larger ridge keeps the result closer to the old weights W, not to zero. If
   * all inputs are zero, the result is W. The caller disposes of it.
   */
  solve(weight: Tensor2D, ridge: number): Tensor2D {
    const [solved] = this.solveEach(weight, [ridge])
    return solved as Tensor2D
  }

  /** Like `solve`, for one ridge after another, each when it is asked for. What W lacks is computed once for all. */
  *solveEach(weight: Tensor2D, ridges: readonly number[]): Generator<Tensor2D> {
    const { inner, outer, gram, cross } = this.#needSums()
    let trace = 0
    for (let i = 0; i < inner; i++) trace += at(gram, i * (inner + 1))
    if (trace === 0) {
      for (const _ of ridges) yield weight.clone()
      return
    }
    const old = Float64Array.from(weight.dataSync())
    const missing = this.#algebra.timesSymmetric(old, gram, inner)
    for (let i = 0; i < missing.length; i++) missing[i] = (cross[i] ?? outside(cross, i)) - (missing[i] ?? outside(missing, i))
    for (const ridge of ridges) {
      const solved = this.#algebra.solve(gram, (ridge * trace) / inner, missing, inner)
      addEntries(solved, old)
      yield tensor2d(Float32Array.from(solved), [outer, inner])
    }
  }

  /** Returns |z W' - t|^2 relative to |t|^2. */
  error(weight: Tensor2D): number {
    const { inner, gram, cross, square } = this.#needSums()
    const weights = Float64Array.from(weight.dataSync())
    const product = this.#algebra.timesSymmetric(weights, gram, inner)
    let sum = square
    for (let i = 0; i < weights.length; i++)
      sum += (weights[i] ?? outside(weights, i)) * ((product[i] ?? outside(product, i)) - 2 * (cross[i] ?? outside(cross, i)))
    return sum / square
  }

  #sumsOf(inner: number, outer: number): Sums {
    this.#sums ??= { inner, outer, gram: new Float64Array(inner * inner), cross: new Float64Array(outer * inner), square: 0 }
    return this.#sums
  }

  #needSums(): Sums {
    if (!this.#sums) throw new Error('No rows were added to the equations.')
    return this.#sums
  }

  dispose(): void {
    this.#sums = undefined
  }
}

function addTo(sums: Sums, more: { gram: ArrayLike<number>; cross: ArrayLike<number>; square: number }): void {
  addEntries(sums.gram, more.gram)
  addEntries(sums.cross, more.cross)
  sums.square += more.square
}
