import { add, matMul, stack, type Tensor1D, type Tensor2D, type Tensor3D, tensor2d, tidy, transpose } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'

/** Rows up to which a product takes the time of reading the weight. */
export const fewRows = 16

/** x [N, D] through a stored weight [R, D] (and bias [R]): [N, R]. */
export function project(x: Tensor2D, weight: Tensor2D, bias?: Tensor1D): Tensor2D {
  const { fused } = activeBackend()
  if (fused && x.shape[0] <= fewRows) return fused.projectFew(x, weight, bias)
  return tidy(() => {
    const product: Tensor2D = activeBackend().anyProducts ? matMul(x, weight, false, true) : matMul(x, transpose(weight))
    return bias ? add(product, bias) : product
  })
}

/** Products of G pairs: a [G, M, C] and b [G, C, N] (or [G, N, C] when `transposeB`): [G, M, N]. */
export function batchedProduct(a: Tensor3D, b: Tensor3D, transposeB: boolean): Tensor3D {
  if (activeBackend().anyProducts) return matMul(a, b, false, transposeB)
  return tidy(() => {
    const left = matrices(a)
    const right = matrices(transposeB ? transpose(b, [0, 2, 1]) : b)
    return stack(left.map((matrix, group) => matMul(matrix, right[group] as Tensor2D))) as Tensor3D
  })
}

/** The matrices of a batch. Taking slices would copy the whole batch for each on backends that need this. */
function matrices(batch: Tensor3D): Tensor2D[] {
  const [count, rows, columns] = batch.shape
  const values = batch.dataSync()
  return Array.from({ length: count }, (_, i) => tensor2d(values.subarray(i * rows * columns, (i + 1) * rows * columns), [rows, columns]))
}
