import { add, matMul, mul, type Tensor1D, type Tensor2D, type Tensor3D, tidy, transpose } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { HalfMatrix, RowParts } from '#engine/backend/halves.ts'
import { halfUnits } from './half-units.ts'
import { narrowed } from './narrow.ts'
import { fusedNorm, type NormWeights, normalize } from './norm.ts'

/** Up to this many rows, a product takes only the time of reading the weight. */
export const fewRows = 16

/**
 * How the products of a pass are computed:
 * - `float32`: in float32.
 * - `bfloat16`: with bfloat16 operands (float16 on a GPU without units for these) and float32 sums.
 * - `split`: as three of those, with operands split into what bfloat16 holds and the rest (x = high + low: high high + high low + low
 *   high), about 5e-6 of the largest entry from float32. A weight whose entries are bfloat16 has no low part: two products, and less than
 *   half that error.
 * - `thirds`: as three of those, of a weight whose entries are bfloat16 and all bits of the rows (x = high + low + rest), so that only
 *   sums are rounded, as in float32, and less often. Other weights, and products without a stored weight, are computed in float32.
 */
export type Products = 'float32' | 'thirds' | 'split' | 'bfloat16'

const rowParts: Readonly<Record<Exclude<Products, 'float32'>, RowParts>> = { bfloat16: 1, split: 2, thirds: 3 }

/** A stored weight in the form of a product: in float32, or packed for the units of 16-bit operands. */
export type Matrix = Tensor2D | HalfMatrix

export const isHalf = (weight: Matrix): weight is HalfMatrix => 'values' in weight

/** Whether a stored weight is packed for `products`. */
export const takesPacked = (weight: Tensor2D, products: Products): products is Exclude<Products, 'float32'> =>
  products !== 'float32' && (products !== 'thirds' || halfUnits().isExact(weight))

/** A stored weight packed for products of 16-bit operands. With `turned`, for those with its transpose, [D, R]. */
export const packFor = (weight: Tensor2D, products: Exclude<Products, 'float32'>, turned = false): HalfMatrix =>
  halfUnits().pack(weight, rowParts[products], turned)

/** A stored weight in the form of `products`: packed for 16-bit operands, otherwise unchanged. */
export const matrixFor = (weight: Tensor2D, products: Products): Matrix =>
  takesPacked(weight, products) ? packFor(weight, products) : weight

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
    takesPacked(weight, products)
      ? project(factors, packFor(weight, products, true), undefined, onto)
      : addOnto(matMul(factors, weight), onto),
  )
}

/** Products of G pairs: a [G, M, C] and b [G, C, N] (or [G, N, C] with `transposeB`): [G, M, N]. */
export const batchedProduct = (a: Tensor3D, b: Tensor3D, transposeB: boolean): Tensor3D => matMul(a, b, false, transposeB)

/** Products of columns over rows: a [N, R] and b [N, C] to a'b [R, C]. */
export function correlate(a: Tensor2D, b: Tensor2D, products: Products = 'float32'): Tensor2D {
  if (products === 'bfloat16') return halfUnits().correlate(a, b)
  if (products === 'split') return tidy(() => project(transpose(a), packFor(b, products, true)))
  return matMul(a, b, true, false)
}

/** The same for G pairs: a [G, N, R] and b [G, N, C] to [G, R, C]. */
export const batchedCorrelation = (a: Tensor3D, b: Tensor3D): Tensor3D => matMul(a, b, true, false)
