import { add, matMul, mul, type Tensor1D, type Tensor2D, type Tensor3D, tidy, transpose } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { PackedMatrix, RowFactor, RowParts } from '#engine/backend/bf16-ops.ts'
import { bf16Ops } from './composed-bf16-ops.ts'
import { narrowed } from './narrow.ts'
import { fusedNorm, type NormWeights, normalize } from './norm.ts'

/** With at most this many rows, a product takes no longer than reading the weight. */
export const fewRows = 16

/**
 * How the products of a pass are computed:
 * - `float32`: in float32.
 * - `bfloat16`: with bfloat16 operands and float32 sums. On a GPU that has only units for float16, and with ggml on any GPU, operands are
 *   float16.
 * - `split`: as three bfloat16 products, with each operand split into a bfloat16 number and the rest (x = high + low, and the products are
 *   high high + high low + low high). The result is within about 5e-6 of the largest entry of float32's. A weight whose entries are bfloat16
 *   numbers, apart from a factor on its rows, has no low part, so two products suffice, with less than half that error.
 * - `thirds`: as three bfloat16 products of a weight whose entries are bfloat16 numbers with rows split into three parts, which hold all
 *   their bits (x = high + low + rest). Only sums are rounded, as in float32, and less often. Other weights, and products without a stored
 *   weight, are computed in float32.
 */
export type Products = 'float32' | 'thirds' | 'split' | 'bfloat16'

const rowParts: Readonly<Record<Exclude<Products, 'float32'>, RowParts>> = { bfloat16: 1, split: 2, thirds: 3 }

/** A stored weight in the form that a product takes: in float32, or packed for 16-bit operands. */
export type Matrix = Tensor2D | PackedMatrix

export const isPacked = (weight: Matrix): weight is PackedMatrix => 'values' in weight

/** Whether a stored weight, some of whose rows may have been multiplied by a factor, has to be packed for `products`. */
export const takesPacked = (weight: Tensor2D, products: Products, factor?: RowFactor): products is Exclude<Products, 'float32'> =>
  products !== 'float32' && (products !== 'thirds' || bf16Ops().isExact(weight, factor))

/**
 * Packs a stored weight, for which `takesPacked` holds, for products of 16-bit operands. With `transposed`, they multiply by its transpose,
 * [D, R]. A factor on some of its rows moves from the weight to the products if its entries are exact without it.
 */
export function packFor(weight: Tensor2D, products: Exclude<Products, 'float32'>, transposed = false, factor?: RowFactor): PackedMatrix {
  const moves = products === 'thirds' || (products === 'split' && factor !== undefined && bf16Ops().isExact(weight, factor))
  return bf16Ops().pack(weight, rowParts[products], transposed, moves ? factor : undefined)
}

/** Returns a stored weight in the form that `products` takes: packed if `takesPacked`, otherwise unchanged. */
export const matrixFor = (weight: Tensor2D, products: Products): Matrix =>
  takesPacked(weight, products) ? packFor(weight, products) : weight

/** The product is multiplied by `scale`, then added to `add`, [N, R]. */
export interface Onto {
  readonly add: Tensor2D
  readonly scale?: number | undefined
}

const addOnto = (product: Tensor2D, onto: Onto | undefined): Tensor2D =>
  onto ? add(onto.add, onto.scale === undefined ? product : mul<Tensor2D>(product, onto.scale)) : product

/** Multiplies x [N, D] by a stored weight [R, D] and adds bias [R], if any. Returns [N, R]. */
export function project(x: Tensor2D, weight: Matrix, bias?: Tensor1D, onto?: Onto): Tensor2D {
  if (isPacked(weight)) return bf16Ops().product(x, weight, { bias, ...onto })
  const { fused } = activeBackend()
  if (fused?.projectFew && !onto && x.shape[0] <= fewRows) return fused.projectFew(x, narrowed(weight) ?? weight, bias)
  return tidy(() => {
    const product: Tensor2D = matMul(x, weight, false, true)
    return addOnto(bias ? add(product, bias) : product, onto)
  })
}

/** The same for x after a norm, if one is given. */
export function projectNormed(x: Tensor2D, norm: NormWeights | undefined, weight: Matrix, bias?: Tensor1D): Tensor2D {
  if (isPacked(weight)) return bf16Ops().product(x, weight, { norm: norm && fusedNorm(norm, x), bias })
  return tidy(() => project(norm ? normalize(x, norm) : x, weight, bias))
}

/** Sums the rows of a stored weight [R, D], weighted by factors [N, R]. Returns [N, D]. */
export function combine(factors: Tensor2D, weight: Tensor2D, products: Products = 'float32', onto?: Onto): Tensor2D {
  return tidy(() =>
    takesPacked(weight, products)
      ? project(factors, packFor(weight, products, true), undefined, onto)
      : addOnto(matMul(factors, weight), onto),
  )
}

/** Multiplies G pairs of matrices, a [G, M, C] and b [G, C, N] (or [G, N, C] with `transposeB`), in float32. Returns [G, M, N]. */
export const batchedProduct = (a: Tensor3D, b: Tensor3D, transposeB: boolean): Tensor3D => matMul(a, b, false, transposeB)

/** The product a'b [R, C] of a [N, R] and b [N, C]. */
export function correlate(a: Tensor2D, b: Tensor2D, products: Products = 'float32'): Tensor2D {
  if (products === 'bfloat16') return bf16Ops().correlate(a, b)
  if (products === 'split') return tidy(() => project(transpose(a), packFor(b, products, true)))
  return matMul(a, b, true, false)
}

/** The same product for G pairs, a [G, N, R] and b [G, N, C], in float32. Returns [G, R, C]. */
export const batchedCorrelation = (a: Tensor3D, b: Tensor3D): Tensor3D => matMul(a, b, true, false)
