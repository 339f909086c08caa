import { type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { outside } from '#contract/at.ts'
import type { NormalEquations } from './normal-equations.ts'

interface Sums {
  readonly inner: number
  readonly outer: number
  /** [K, K] and [D, K]. */
  readonly gram: Float64Array
  readonly cross: Float64Array
  square: number
}

/** Normal equations in plain float64, for backends without it. */
export class OwnEquations implements NormalEquations {
  #sums: Sums | undefined

  add(inputs: Tensor2D, targets: Tensor2D): void {
    const [rows, inner] = inputs.shape
    const outer = targets.shape[1]
    const sums = this.#sums ?? { inner, outer, gram: new Float64Array(inner * inner), cross: new Float64Array(outer * inner), square: 0 }
    this.#sums = sums
    const [z, t] = [inputs.dataSync(), targets.dataSync()]
    for (let row = 0; row < rows; row++) {
      const own = z.subarray(row * inner, (row + 1) * inner)
      const wanted = t.subarray(row * outer, (row + 1) * outer)
      addOuter(sums.gram, own, own)
      addOuter(sums.cross, wanted, own)
      for (const value of wanted) sums.square += value * value
    }
  }

  addSums(gram: Tensor2D, cross: Tensor2D, square: number): void {
    const [outer, inner] = cross.shape
    const more = new OwnEquations()
    more.#sums = { inner, outer, gram: Float64Array.from(gram.dataSync()), cross: Float64Array.from(cross.dataSync()), square }
    this.merge(more)
  }

  merge(other: OwnEquations): void {
    const [own, more] = [this.#sums, other.#sums]
    if (!own || !more) {
      this.#sums = own ?? more
      return
    }
    addTo(own.gram, more.gram)
    addTo(own.cross, more.cross)
    own.square += more.square
  }

  solve(weight: Tensor2D, ridges: readonly number[]): Tensor2D[] {
    return ridges.map((ridge) => this.#solve(weight, ridge))
  }

  #solve(weight: Tensor2D, ridge: number): Tensor2D {
    const { inner, outer, gram, cross } = this.#needSums()
    let trace = 0
    for (let i = 0; i < inner; i++) trace += at(gram, i * inner + i)
    if (trace === 0) return weight.clone()
    const raised = gram.slice()
    for (let i = 0; i < inner; i++) raised[i * inner + i] = at(gram, i * inner + i) + (ridge * trace) / inner
    const factor = cholesky(raised, inner)
    const solved = Float64Array.from(weight.dataSync())
    for (let row = 0; row < outer; row++) {
      const own = solved.subarray(row * inner, (row + 1) * inner)
      const missing = cross.slice(row * inner, (row + 1) * inner)
      for (let i = 0; i < inner; i++) missing[i] = at(missing, i) - dot(gram, i * inner, own, inner)
      addTo(own, substitute(factor, missing, inner))
    }
    return tensor2d(Float32Array.from(solved), [outer, inner])
  }

  error(weight: Tensor2D): number {
    const { inner, outer, gram, cross, square } = this.#needSums()
    const own = Float64Array.from(weight.dataSync())
    let sum = square
    for (let row = 0; row < outer; row++) {
      const line = own.subarray(row * inner, (row + 1) * inner)
      for (let i = 0; i < inner; i++) sum += at(line, i) * (dot(gram, i * inner, line, inner) - 2 * at(cross, row * inner + i))
    }
    return sum / square
  }

  #needSums(): Sums {
    if (!this.#sums) throw new Error('Nothing was added.')
    return this.#sums
  }

  dispose(): void {
    this.#sums = undefined
  }
}

/** sums += a b', for sums [a, b] row by row. */
function addOuter(sums: Float64Array, a: ArrayLike<number>, b: ArrayLike<number>): void {
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < b.length; j++) sums[i * b.length + j] = at(sums, i * b.length + j) + at(a, i) * at(b, j)
  }
}

function addTo(sums: Float64Array, more: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] = at(sums, i) + at(more, i)
}

/** The lower factor of a positive definite matrix [size, size]. */
function cholesky(matrix: Float64Array, size: number): Float64Array {
  const factor = new Float64Array(size * size)
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = at(matrix, i * size + j)
      for (let k = 0; k < j; k++) sum -= at(factor, i * size + k) * at(factor, j * size + k)
      factor[i * size + j] = i === j ? Math.sqrt(sum) : sum / at(factor, j * size + j)
    }
  }
  return factor
}

/** (L L')^-1 b. */
function substitute(factor: Float64Array, b: Float64Array, size: number): Float64Array {
  const x = b.slice()
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < i; k++) x[i] = at(x, i) - at(factor, i * size + k) * at(x, k)
    x[i] = at(x, i) / at(factor, i * size + i)
  }
  for (let i = size - 1; i >= 0; i--) {
    for (let k = i + 1; k < size; k++) x[i] = at(x, i) - at(factor, k * size + i) * at(x, k)
    x[i] = at(x, i) / at(factor, i * size + i)
  }
  return x
}

function dot(matrix: Float64Array, start: number, vector: Float64Array, size: number): number {
  let sum = 0
  for (let i = 0; i < size; i++) sum += at(matrix, start + i) * at(vector, i)
  return sum
}

const at = (array: ArrayLike<number>, index: number): number => array[index] ?? outside(array, index)
