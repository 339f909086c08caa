import { type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { algebra } from '#engine/algebra/openblas.ts'
import { ownAlgebra } from '#engine/algebra/own.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'

function randomSquare(size: number): Float64Array {
  const random = new PythonRandom(size)
  const x = Float64Array.from({ length: size * size }, () => random.random() - 0.5)
  return Float64Array.from({ length: size * size }, (_, at) => {
    let sum = 0
    for (let k = 0; k < size; k++) sum += (x[Math.floor(at / size) * size + k] ?? 0) * (x[(at % size) * size + k] ?? 0)
    return sum
  })
}

const matrices: [string, Float64Array, number][] = [
  ...[1, 2, 3, 10, 64].map((size): [string, Float64Array, number] => [`random ${size}`, randomSquare(size), size]),
  ['equal values', Float64Array.from({ length: 64 }, (_, at) => (at % 9 === 0 ? (at < 30 ? 2 : 1) : 0)), 8],
  ['zero', new Float64Array(16), 4],
  ['rank one', Float64Array.from({ length: 36 }, () => 1), 6],
]

beforeAll(async () => {
  await openBackend(testedBackend)
})

const solvers = [
  ['OpenBLAS', () => algebra()],
  ['our own code', () => ownAlgebra],
] as const

describe.each(solvers)('%s', (_, made) => {
  test.each([64, 300])('sums products of %i columns exactly, and of a smaller width on one side', (size) => {
    const rows = 40
    const random = new PythonRandom(1)
    const [x, z] = [size, 3].map((columns) =>
      tensor2d(
        Float32Array.from({ length: rows * columns }, () => random.random() - 0.5),
        [rows, columns],
      ),
    ) as [Tensor2D, Tensor2D]
    const [squares, products] = [new Float64Array(size * size), new Float64Array(3 * size)]
    for (let part = 0; part < 2; part++) {
      made().addProducts(squares, x, x, true)
      made().addProducts(products, z, x)
    }
    const [left, right] = [x.dataSync(), z.dataSync()]
    const sum = (a: ArrayLike<number>, i: number, columns: number, j: number) => {
      let total = 0
      for (let row = 0; row < rows; row++) total += 2 * (a[row * columns + i] ?? Number.NaN) * (left[row * size + j] ?? Number.NaN)
      return total
    }
    // Our own code sums more than 256 columns in float32.
    const digits = size > 256 ? 5 : 12
    for (const [i, j] of [
      [0, 0],
      [7, 3],
      [size - 1, size - 1],
      [size - 1, 0],
    ] as const)
      expect(squares[i * size + j]).toBeCloseTo(sum(left, i, size, j), digits)
    for (const [i, j] of [
      [0, 0],
      [1, size - 1],
      [2, 5],
    ] as const)
      expect(products[i * size + j]).toBeCloseTo(sum(right, i, 3, j), digits)
    x.dispose()
    z.dispose()
  })
})

describe.each(solvers.flatMap(([solver, made]) => matrices.map(([title, matrix, size]) => [solver, title, made, matrix, size] as const)))(
  '%s: %s',
  (_, __, made, matrix, size) => {
    test('vectors are orthonormal, descending and eigenvectors', () => {
      // Only the lower triangle may be read.
      const lower = matrix.map((value, i) => (i % size > Math.floor(i / size) ? Number.NaN : value))
      const { values, vectors } = made().eigen(lower, size)
      const row = (at: number) => vectors.subarray(at * size, (at + 1) * size)
      const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0)
      for (let i = 0; i < size; i++) {
        if (i > 0) expect(values[i]).toBeLessThanOrEqual(values[i - 1] ?? 0)
        for (let j = 0; j < size; j++) expect(dot(row(i), row(j))).toBeCloseTo(i === j ? 1 : 0, 12)
        for (let j = 0; j < size; j++)
          expect(dot(matrix.subarray(j * size, (j + 1) * size), row(i))).toBeCloseTo((values[i] ?? 0) * (row(i)[j] ?? 0), 10)
      }
    })
  },
)
