import { tensor2d } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { RawOperations } from '#engine/backend/raw-operations.ts'
import { addOuterProducts } from '#engine/pruning/components/covariance.ts'
import { symmetricEigen } from '#engine/pruning/components/eigen.ts'
import { RuntimeMoments } from '#engine/pruning/components/runtime-moments.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'

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

test('the runtime sums and solves in float64 as our own code does', () => {
  const [rows, size] = [300, 64]
  const random = new PythonRandom(1)
  const x = tensor2d(
    Float32Array.from({ length: rows * size }, (_, at) => (1 + (at % size)) * (random.random() - 0.5)),
    [rows, size],
  )
  const sums = new Float64Array(size * size)
  const moments = new RuntimeMoments(new RawOperations())
  for (let part = 0; part < 3; part++) {
    addOuterProducts(sums, x, size)
    moments.add(x)
  }
  const [own, { vectors: columns, eigenvalues }] = [symmetricEigen(sums, size), moments.solve()]
  moments.dispose()
  const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, at) => sum + value * (b[at] ?? 0), 0)
  for (let i = 0; i < size; i++) {
    const vector = Float64Array.from({ length: size }, (_, row) => columns[row * size + size - 1 - i] ?? 0)
    const product = Float64Array.from(vector, (_, row) => dot(sums.subarray(row * size, (row + 1) * size), vector))
    const square = dot(vector, vector)
    expect((eigenvalues[size - 1 - i] ?? 0) / (own.values[i] ?? 0)).toBeCloseTo(1, 5)
    // The vector's value, from which its rounding to float32 is missing in first order.
    expect(dot(vector, product) / square / (own.values[i] ?? 0)).toBeCloseTo(1, 10)
    expect(Math.abs(dot(own.vectors.subarray(i * size, (i + 1) * size), vector)) / Math.sqrt(square)).toBeCloseTo(1, 8)
  }
  x.dispose()
})

describe.each(matrices)('%s', (_, matrix, size) => {
  test('vectors are orthonormal, descending and eigenvectors', () => {
    const { values, vectors } = symmetricEigen(matrix, size)
    const row = (at: number) => vectors.subarray(at * size, (at + 1) * size)
    const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0)
    for (let i = 0; i < size; i++) {
      if (i > 0) expect(values[i]).toBeLessThanOrEqual(values[i - 1] ?? 0)
      for (let j = 0; j < size; j++) expect(dot(row(i), row(j))).toBeCloseTo(i === j ? 1 : 0, 12)
      for (let j = 0; j < size; j++)
        expect(dot(matrix.subarray(j * size, (j + 1) * size), row(i))).toBeCloseTo((values[i] ?? 0) * (row(i)[j] ?? 0), 10)
    }
  })
})
