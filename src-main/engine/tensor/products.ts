import { add, matMul, mul, type Tensor1D, type Tensor2D, type Tensor3D, tidy, transpose } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { HalfMatrix } from '#engine/backend/halves.ts'
import { halfUnits } from './half-units.ts'
import { narrowed } from './narrow.ts'
import { fusedNorm, type NormWeights, normalize } from './norm.ts'

/** Up to this many rows, a product takes only the time of reading the weight. */
export const fewRows = 16

/**
 * How the products of a pass are computed: in float32; with bfloat16 operands (float16 on a GPU without units for these) and float32 sums;
 * or as three of those, with operands split into what bfloat16 holds and the rest (x = high + low: high high + high low + low high), about
 * 5e-6 of the largest entry from float32. A weight whose entries are bfloat16 has no low part: two products, and less than half that error.
 */
export type Products = 'float32' | 'split' | 'bfloat16'

/** A stored weight in the form of a product: in float32, or packed for the units of 16-bit operands. */
export type Matrix = Tensor2D | HalfMatrix

export const isHalf = (weight: Matrix): weight is HalfMatrix => 'values' in weight

/** A stored weight in the form of `products`: packed for 16-bit operands, otherwise unchanged. */
export const matrixFor = (weight: Tensor2D, products: Products): Matrix =>
  products === 'float32' ? weight : halfUnits().pack(weight, products === 'split')

/** The same for products with the transposed weight, [D, R]. */
export const turnedMatrix = (weight: Tensor2D, products: Exclude<Products, 'float32'>): HalfMatrix =>
  halfUnits().pack(weight, products === 'split', true)

/** What a product is added to, [N, R], with a scale. */
export interface Onto {
  readonly add: Tensor2D
  readonly scale?: number | undefined
}

const addOnto = (product: Tensor2D, onto: Onto | undefined): Tensor2D =>
  onto ? add(onto.add, onto.scale === undefined ? product : mul<Tensor2D>(product, onto.scale)) : product

/** x [N, D] through a stored weight [R, D] (and bias [R]): [N, R]. */
export function project(x: Tensor2D, weight: Matrix, bias?: Tensor1D, onto?: Onto): Tensor2D {
  if (isHalf(weight)) return halfUnits().product(x, weight, { bias, ...onto })
  const { fused } = activeBackend()
  if (fused?.projectFew && !onto && x.shape[0] <= fewRows) return fused.projectFew(x, narrowed(weight) ?? weight, bias)
  return tidy(() => {
    const product: Tensor2D = matMul(x, weight, false, true)
    return addOnto(bias ? add(product, bias) : product, onto)
  })
}

/** The same for x after a norm, if there is one. */
export function projectNormed(x: Tensor2D, norm: NormWeights | undefined, weight: Matrix, bias?: Tensor1D): Tensor2D {
  if (isHalf(weight)) return halfUnits().product(x, weight, { norm: norm && fusedNorm(norm, x), bias })
  return tidy(() => project(norm ? normalize(x, norm) : x, weight, bias))
}

/** Sums of rows of a stored weight [R, D] with factors [N, R]: [N, D]. */
export function combine(factors: Tensor2D, weight: Tensor2D, products: Products = 'float32', onto?: Onto): Tensor2D {
  return tidy(() =>
    products === 'float32' ? addOnto(matMul(factors, weight), onto) : project(factors, turnedMatrix(weight, products), undefined, onto),
  )
}

/** Products of G pairs: a [G, M, C] and b [G, C, N] (or [G, N, C] with `transposeB`): [G, M, N]. */
export const batchedProduct = (a: Tensor3D, b: Tensor3D, transposeB: boolean): Tensor3D => matMul(a, b, false, transposeB)

/** Products of columns over rows: a [N, R] and b [N, C] to a'b [R, C]. */
export function correlate(a: Tensor2D, b: Tensor2D, products: Products = 'float32'): Tensor2D {
  if (products === 'bfloat16') return halfUnits().correlate(a, b)
  if (products === 'split') return tidy(() => project(transpose(a), turnedMatrix(b, products)))
  return matMul(a, b, true, false)
}

/** The same for G pairs: a [G, N, R] and b [G, N, C] to [G, R, C]. */
export const batchedCorrelation = (a: Tensor3D, b: Tensor3D): Tensor3D => matMul(a, b, true, false)
