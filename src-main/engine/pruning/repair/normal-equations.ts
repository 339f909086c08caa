import { matMul, sub, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { at, outside } from '#contract/at.ts'
import { algebra } from '#engine/algebra/openblas.ts'
import { type Algebra, addEntries, forEachRows } from '#engine/algebra/own.ts'

interface Sums {
  readonly inner: number
  readonly outer: number
  /** G, [K, K], of which only the diagonal and the lower triangle count. */
  readonly gram: Float64Array
  /** M, [D, K]. */
  readonly missing: Float64Array
  /** |t|^2. */
  square: number
  /** |t - z W'|^2. */
  lost: number
}

/** Rows whose squares are read at a time. */
const rowsAtOnce = 2048

/** Outputs that a sample has at least, if there are as many. */
export const sampledOutputs = 256

/**
 * The least-squares problem of one projection W [D, K], for inputs z [N, K] and target outputs t [N, D], solved for a change of W. It is
 * held as the sums G = z'z, M = (t - z W')'z and |t|^2. Sums and solves are in float64.
 */
export class NormalEquations {
  readonly #weight: Tensor2D
  readonly #algebra: Algebra
  #sums: Sums | undefined
  /** How many outputs there are for each of a sample. */
  #outputsBySampled = 1

  /** @param weight W, which the caller disposes of after the last rows were added */
  constructor(weight: Tensor2D, own: Algebra = algebra()) {
    this.#weight = weight
    this.#algebra = own
  }

  /** Adds rows: inputs [N, K], targets [N, D], and what the outputs of W lack of the targets if the caller knows it, [N, D]. */
  add(inputs: Tensor2D, targets: Tensor2D, lacking?: Tensor2D): void {
    const sums = this.#sumsOf(inputs.shape[1], targets.shape[1])
    this.#algebra.addProducts(sums.gram, inputs)
    const missing = lacking ?? tidy(() => sub<Tensor2D>(targets, matMul(inputs, this.#weight, false, true)))
    this.#algebra.addProducts(sums.missing, missing, inputs)
    sums.square += squareOf(targets)
    sums.lost += squareOf(missing)
    if (!lacking) missing.dispose()
  }

  /** The error of the old weights W, |t - z W'|^2 relative to |t|^2. */
  get error(): number {
    const { lost, square } = this.#needSums()
    return lost / square
  }

  /** Takes over the sums of other equations of the same weights, which must not be used afterwards. */
  merge(other: NormalEquations): void {
    if (!this.#sums) this.#sums = other.#sums
    else if (other.#sums) addTo(this.#sums, other.#sums)
  }

  /** Returns the equations of some of the outputs, evenly spread, which share G; or these equations themselves if there are few. */
  sample(): NormalEquations {
    const sums = this.#needSums()
    const { inner, outer, missing } = sums
    const every = Math.floor(outer / sampledOutputs)
    if (every <= 1) return this
    const chosen = Array.from({ length: Math.floor(outer / every) }, (_, row) => row * every * inner)
    const some = new Float64Array(chosen.length * inner)
    chosen.forEach((start, row) => {
      some.set(missing.subarray(start, start + inner), row * inner)
    })
    const sampled = new NormalEquations(this.#weight, this.#algebra)
    sampled.#sums = { ...sums, outer: chosen.length, missing: some }
    sampled.#outputsBySampled = outer / chosen.length
    return sampled
  }

  /**
   * Returns the change M (G + ridge * tr(G)/K * 1)^-1, [D, K]. A larger ridge keeps the weights closer to the old ones, not to zero. If all
   * inputs are zero, nothing changes.
   */
  solve(ridge: number): Float64Array {
    const { inner, gram, missing } = this.#needSums()
    let trace = 0
    for (let i = 0; i < inner; i++) trace += at(gram, i * (inner + 1))
    return trace === 0 ? new Float64Array(missing.length) : this.#algebra.solve(gram, (ridge * trace) / inner, missing, inner)
  }

  /** Returns what a change adds to |z W' - t|^2, relative to |t|^2. For a sample, it is an estimate of that for all outputs. */
  errorAdded(change: Float64Array): number {
    const { inner, gram, missing, square } = this.#needSums()
    const product = this.#algebra.timesSymmetric(change, gram, inner)
    let sum = 0
    for (let i = 0; i < change.length; i++) sum += entry(change, i) * (entry(product, i) - 2 * entry(missing, i))
    return (sum / square) * this.#outputsBySampled
  }

  #sumsOf(inner: number, outer: number): Sums {
    this.#sums ??= { inner, outer, gram: new Float64Array(inner * inner), missing: new Float64Array(outer * inner), square: 0, lost: 0 }
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

function addTo(sums: Sums, more: Sums): void {
  addEntries(sums.gram, more.gram)
  addEntries(sums.missing, more.missing)
  sums.square += more.square
  sums.lost += more.lost
}

function squareOf(x: Tensor2D): number {
  let sum = 0
  forEachRows(x, x, rowsAtOnce, (some) => {
    const values = some.dataSync()
    for (let i = 0; i < values.length; i++) sum += entry(values, i) ** 2
  })
  return sum
}

const entry = (values: ArrayLike<number>, index: number): number => values[index] ?? outside(values, index)
