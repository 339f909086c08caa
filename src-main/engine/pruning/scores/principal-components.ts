import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { algebra } from '#engine/algebra/openblas.ts'
import { breathe } from '#engine/model/walk.ts'

/**
 * Float64 operations that find components: `covariance` sums over `rows`, and `vectors` finds eigenvectors, which takes about 25 times the
 * cube of their size.
 */
export const componentOperations = {
  covariance: (rows: number, size: number): number => rows * size ** 2,
  vectors: (size: number): number => 25 * size ** 3,
}

interface PrincipalComponents {
  /** The first eigenvectors as columns: [size, width], row by row. */
  readonly values: Float32Array
  /** All eigenvalues, largest first. */
  readonly eigenvalues: Float64Array
}

/** Returns the first `width` eigenvectors of the sum of x'x over all of `streams` [rows, size]. Sums and vectors are computed in float64. */
export async function principalComponents(streams: readonly Tensor2D[], size: number, width: number): Promise<PrincipalComponents> {
  const covariance = new Float64Array(size * size)
  for (const x of streams) {
    algebra().addProducts(covariance, x, x, true)
    await breathe()
  }
  const { vectors, values: eigenvalues } = algebra().eigen(covariance, size)
  const values = new Float32Array(size * width)
  for (let row = 0; row < size; row++)
    for (let column = 0; column < width; column++) values[row * width + column] = at(vectors, column * size + row)
  return { values, eigenvalues }
}
