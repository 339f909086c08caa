import { type Tensor2D, tensor1d, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { SelfTest } from '#contract/machine/engine-state.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { gateNeurons } from '#engine/tensor/activation.ts'
import { normalize } from '#engine/tensor/norm.ts'
import { matrixFor, project } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { logSumExponents } from './parts/head/token-losses.ts'
import { productsFor } from './precision.ts'

/**
 * The largest error that is allowed for float32, relative to the largest value of a result. Products in reduced precision are off by about
 * a hundred times as much.
 */
const allowedError = 1e-5

const [rows, inner, columns] = [67, 301, 45]

interface Matrix {
  readonly values: Float32Array
  readonly tensor: () => Tensor2D
}

function matrix(height: number, width: number, random: PythonRandom): Matrix {
  return matrixOf(
    Float32Array.from({ length: height * width }, () => 4 * random.random() - 2),
    height,
    width,
  )
}

const matrixOf = (values: Float32Array, height: number, width: number): Matrix => ({
  values,
  tensor: () => tensor2d(values, [height, width]),
})

/** The operations on which decisions depend, applied to random numbers of seed 0, and the results that float64 gives. */
function operations(): { title: string; run: () => ArrayLike<number>; expected: Float64Array }[] {
  const random = new PythonRandom(0)
  const x = matrix(rows, inner, random)
  const weight = matrix(columns, inner, random)
  const gate = matrix(rows, inner, random)
  const stored = matrixOf(
    weight.values.map((value) => Math.round(64 * value) / 64),
    columns,
    inner,
  )
  const scale = Float32Array.from({ length: inner }, () => random.random())
  const entry = ({ values }: Matrix, row: number, column: number) => at(values, row * inner + column)
  const sumOver = (count: number, term: (i: number) => number) =>
    Array.from({ length: count }, (_, i) => term(i)).reduce((a, b) => a + b, 0)
  const eachOf = (height: number, width: number, value: (row: number, column: number) => number) =>
    Float64Array.from({ length: height * width }, (_, i) => value(Math.floor(i / width), i % width))
  const productWith = (other: Matrix) =>
    eachOf(rows, columns, (row, column) => sumOver(inner, (i) => entry(x, row, i) * entry(other, column, i)))
  const lengths = eachOf(rows, 1, (row) => Math.sqrt(sumOver(inner, (i) => entry(x, row, i) ** 2) / inner + 1e-6))
  return [
    {
      title: 'a product',
      run: () => valuesOf(() => project(x.tensor(), weight.tensor())),
      expected: productWith(weight),
    },
    {
      title: 'a product with a bfloat16 weight',
      run: () => valuesOf(() => project(x.tensor(), matrixFor(stored.tensor(), productsFor('float32').deciding))),
      expected: productWith(stored),
    },
    {
      title: 'a norm',
      run: () => valuesOf(() => normalize(x.tensor(), { kind: 'rms', epsilon: 1e-6, weight: tensor1d(scale) })),
      expected: eachOf(rows, inner, (row, i) => (entry(x, row, i) / at(lengths, row)) * at(scale, i)),
    },
    {
      title: 'gated neurons',
      run: () => valuesOf(() => gateNeurons(gate.tensor(), x.tensor(), 'silu')),
      expected: eachOf(rows, inner, (row, i) => (entry(gate, row, i) / (1 + Math.exp(-entry(gate, row, i)))) * entry(x, row, i)),
    },
    {
      title: 'sums of exponents',
      run: () => logSumExponents(x.tensor()),
      expected: eachOf(rows, 1, (row) => Math.log(sumOver(inner, (i) => Math.exp(entry(x, row, i))))),
    },
  ]
}

/** The largest error of an operation, relative to the largest expected value; the largest number if a result is not finite. */
function errorOf(found: ArrayLike<number>, expected: Float64Array): number {
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs((found[i] ?? Number.NaN) - value)), 0)
  return Number.isFinite(worst) ? worst / largest : Number.MAX_VALUE
}

/** Runs the operations in the active runtime. Returns the largest error, which operation had it, and whether it is allowed. */
export function checkOperations(): Pick<SelfTest, 'matches' | 'largestError' | 'worst'> {
  const errors = operations().map(({ title, run, expected }) => {
    let error = 0
    tidy(() => {
      error = errorOf(run(), expected)
    })
    return { title, error }
  })
  const worst = errors.reduce((most, next) => (next.error > most.error ? next : most))
  return { matches: worst.error <= allowedError, largestError: worst.error, worst: worst.title }
}
