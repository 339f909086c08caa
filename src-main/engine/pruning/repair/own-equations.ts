import { type Tensor2D, tensor2d, transpose } from '@tensorflow/tfjs-core'
import { at, outside } from '#contract/at.ts'
import { valuesOf } from '#engine/tensor/read.ts'
import { addEntries, addProducts, doubleUpTo } from '../components/covariance.ts'
import { factorise, solveRows, subtractProduct, whole } from './double-matrices.ts'
import type { NormalEquations } from './normal-equations.ts'
import { rowsPerProduct } from './runtime-equations.ts'

interface Sums {
  readonly inner: number
  readonly outer: number
  /** G, [K, K]. */
  readonly gram: Float64Array
  /** C, [D, K]. */
  readonly cross: Float64Array
  square: number
}

/** Normal equations for backends without float64: this process sums and solves them itself. */
export class OwnEquations implements NormalEquations {
  #sums: Sums | undefined

  add(inputs: Tensor2D, targets: Tensor2D): void {
    const sums = this.#sumsOf(inputs.shape[1], targets.shape[1])
    if (sums.inner <= doubleUpTo) addDoubles(sums, inputs, targets)
    else {
      addProducts(sums.gram, inputs, inputs, rowsPerProduct)
      addProducts(sums.cross, targets, inputs, rowsPerProduct)
    }
    sums.square += squareOf(targets.dataSync())
  }

  addSums(gram: Tensor2D, cross: Tensor2D, square: number): void {
    const [outer, inner] = cross.shape
    addTo(this.#sumsOf(inner, outer), { gram: gram.dataSync(), cross: cross.dataSync(), square })
  }

  merge(other: OwnEquations): void {
    if (!this.#sums) this.#sums = other.#sums
    else if (other.#sums) addTo(this.#sums, other.#sums)
  }

  #sumsOf(inner: number, outer: number): Sums {
    this.#sums ??= { inner, outer, gram: new Float64Array(inner * inner), cross: new Float64Array(outer * inner), square: 0 }
    return this.#sums
  }

  solve(weight: Tensor2D, ridges: readonly number[]): Tensor2D[] {
    const { inner, outer, gram, cross } = this.#needSums()
    let trace = 0
    for (let i = 0; i < inner; i++) trace += at(gram, i * (inner + 1))
    if (trace === 0) return ridges.map(() => weight.clone())
    const old = Float64Array.from(weight.dataSync())
    const missing = cross.slice()
    // G is symmetric, so its rows serve as columns.
    subtractProduct(whole(missing, inner), whole(old, inner), whole(gram, inner), outer, inner, inner)
    return ridges.map((ridge) => {
      const factor = gram.slice()
      for (let i = 0; i < inner; i++) factor[i * (inner + 1)] = at(gram, i * (inner + 1)) + (ridge * trace) / inner
      factorise(factor, inner)
      const solved = missing.slice()
      solveRows(factor, solved, outer, inner)
      addEntries(solved, old)
      return tensor2d(Float32Array.from(solved), [outer, inner])
    })
  }

  error(weight: Tensor2D): number {
    const { inner, outer, gram, cross, square } = this.#needSums()
    const weights = Float64Array.from(weight.dataSync())
    const product = new Float64Array(weights.length) // -W G
    subtractProduct(whole(product, inner), whole(weights, inner), whole(gram, inner), outer, inner, inner)
    let sum = square
    for (let i = 0; i < weights.length; i++)
      sum -= (weights[i] ?? outside(weights, i)) * ((product[i] ?? outside(product, i)) + 2 * (cross[i] ?? outside(cross, i)))
    return sum / square
  }

  #needSums(): Sums {
    if (!this.#sums) throw new Error('No rows were added to the equations.')
    return this.#sums
  }

  dispose(): void {
    this.#sums = undefined
  }
}

/** Adds the products of rows, computed in float64. */
function addDoubles({ gram, cross, inner, outer }: Sums, inputs: Tensor2D, targets: Tensor2D): void {
  const rows = inputs.shape[0]
  const [z, t] = [inputs, targets].map((x) => Float64Array.from(valuesOf(() => transpose(x)))) as [Float64Array, Float64Array]
  const negative = whole(
    z.map((value) => -value),
    rows,
  )
  subtractProduct(whole(gram, inner), whole(z, rows), negative, inner, inner, rows)
  subtractProduct(whole(cross, inner), whole(t, rows), negative, outer, inner, rows)
}

function squareOf(values: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += (values[i] ?? outside(values, i)) ** 2
  return sum
}

function addTo(sums: Sums, more: { gram: ArrayLike<number>; cross: ArrayLike<number>; square: number }): void {
  addEntries(sums.gram, more.gram)
  addEntries(sums.cross, more.cross)
  sums.square += more.square
}
