import type { Tensor2D } from '@tensorflow/tfjs-core'
import { outside } from '#contract/at.ts'
import { type RawOperations, rawOperations } from '#engine/backend/raw-operations.ts'
import { breathe } from '#engine/model/walk.ts'
import { addOuterProducts } from './covariance.ts'
import { symmetricEigen } from './eigen.ts'
import { RuntimeMoments } from './runtime-moments.ts'

/**
 * Float64 operations that find components: `covariance` sums over `rows`, and `vectors` finds eigenvectors, which takes about 25 times the
 * cube of their size.
 */
export const componentOperations = {
  covariance: (rows: number, size: number): number => 2 * rows * size ** 2,
  vectors: (size: number): number => 25 * size ** 3,
}

interface PrincipalComponents {
  /** The first eigenvectors as columns: [size, width], row by row. */
  readonly values: Float32Array
  /** All eigenvalues, largest first. */
  readonly eigenvalues: Float64Array
}

/** Returns the first `width` eigenvectors of the sum of x'x over all of `streams` [rows, size]. */
export async function principalComponents(streams: readonly Tensor2D[], size: number, width: number): Promise<PrincipalComponents> {
  const values = new Float32Array(size * width)
  const raw = rawOperations()
  const { vectors, eigenvalues, at } = raw ? await runtimeVectors(raw, streams, size) : await ownVectors(streams, size)
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < width; column++) {
      const index = at(row, column)
      values[row * width + column] = vectors[index] ?? outside(vectors, index)
    }
  }
  return { values, eigenvalues: Float64Array.from(eigenvalues).sort().reverse() }
}

interface Vectors {
  readonly vectors: ArrayLike<number>
  readonly eigenvalues: ArrayLike<number>
  /** Returns the index in `vectors` of entry `row` of the vector with the `column`-th largest eigenvalue. */
  at(row: number, column: number): number
}

async function runtimeVectors(raw: RawOperations, streams: readonly Tensor2D[], size: number): Promise<Vectors> {
  const moments = new RuntimeMoments(raw)
  try {
    for (const x of streams) {
      moments.add(x)
      await breathe()
    }
    return { ...moments.solve(), at: (row, column) => row * size + size - 1 - column }
  } finally {
    moments.dispose()
  }
}

async function ownVectors(streams: readonly Tensor2D[], size: number): Promise<Vectors> {
  const covariance = new Float64Array(size * size)
  for (const x of streams) {
    addOuterProducts(covariance, x, size)
    await breathe()
  }
  const { vectors, values } = symmetricEigen(covariance, size)
  return { vectors, eigenvalues: values, at: (row, column) => column * size + row }
}
