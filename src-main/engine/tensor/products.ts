import { add, concat, matMul, slice, type Tensor1D, type Tensor2D, type Tensor3D, tidy } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'

/** x [N, D] through a stored weight [R, D] (and bias [R]): [N, R]. */
export function project(x: Tensor2D, weight: Tensor2D, bias?: Tensor1D): Tensor2D {
  if (!bias) return matMul(x, weight, false, true)
  return tidy(() => add(matMul(x, weight, false, true), bias))
}

/** Products of G pairs: a [G, M, C] and b [G, C, N] (or [G, N, C] when `transposeB`): [G, M, N]. */
export function batchedProduct(a: Tensor3D, b: Tensor3D, transposeB: boolean): Tensor3D {
  if (activeBackend().batchedProducts || a.shape[0] === 1) return matMul(a, b, false, transposeB)
  return tidy(() => {
    const products: Tensor3D[] = []
    for (let group = 0; group < a.shape[0]; group++) products.push(matMul(slicePair(a, group), slicePair(b, group), false, transposeB))
    return concat(products, 0)
  })
}

function slicePair(x: Tensor3D, group: number): Tensor3D {
  return slice(x, [group, 0, 0], [1, -1, -1])
}
