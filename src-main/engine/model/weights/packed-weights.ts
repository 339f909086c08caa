import type { Tensor2D } from '@tensorflow/tfjs-core'
import { isConstant } from '#engine/architectures/spec.ts'
import { isPacked, type Matrix, type Products, packFor, takesPacked } from '#engine/tensor/products.ts'
import { cloneTensors } from '#engine/tensor/tidied.ts'
import { changeExpert } from '../views/gather-mlp.ts'
import type { ModelView } from '../views/view.ts'
import { disposePart, type RowFactors, rowFactors } from './unpack.ts'
import { isUnread, type MlpWeights, type Part, type PartWeights } from './weights.ts'

type PackedProducts = Exclude<Products, 'float32'>

/**
 * The weights of a view's parts, packed for products of 16-bit operands. By default they are packed again for each lease, because this
 * costs only as much as reading them and saves memory. With `keeps` they are packed once, unless weights are streamed. Parts that these
 * products cannot take stay in float32.
 */
export class PackedWeights {
  readonly #view: ModelView
  readonly #products: PackedProducts
  readonly #keeps: boolean
  readonly #kept = new Map<Part, PartWeights<Matrix>>()

  constructor(view: ModelView, products: PackedProducts, keeps: boolean) {
    this.#view = view
    this.#products = products
    this.#keeps = keeps && !view.model.store.streams
  }

  /** Leases the weights of a part until `release`: packed ones, or the view's own in float32. */
  async lease(part: Part, next: Part | undefined): Promise<PartWeights<Matrix>> {
    const kept = this.#kept.get(part)
    if (kept) return kept
    const plain = await this.#view.lease(part, next)
    const factors = rowFactors(this.#view.model.spec, plain)
    if (!isTaken(plain, this.#products, factors)) return plain
    try {
      const packed = packPart(plain, this.#products, factors)
      if (this.#keeps) this.#kept.set(part, packed)
      return packed
    } finally {
      this.#view.release(part, plain)
    }
  }

  release(part: Part, weights: PartWeights<Matrix>): void {
    if (this.#kept.get(part) !== weights) disposePart(weights)
  }

  dispose(): void {
    for (const weights of this.#kept.values()) disposePart(weights)
    this.#kept.clear()
  }
}

/** Whether a part's weights are packed. */
export function hasPackedWeights({ attention, mlp, mixture }: PartWeights<Matrix>): boolean {
  if (attention) return isPacked(attention.output)
  const first = mlp ?? mixture.experts.find((one) => !isConstant(one))
  if (first === undefined || isConstant(first)) return false
  return isUnread(first) ? first.packed === true : isPacked(first.down)
}

/**
 * Whether all projections of a part can be packed for `products`. With `thirds` a mixture is computed in float32, because its experts may
 * not be in memory to be checked.
 */
function isTaken({ attention, mlp, mixture }: PartWeights, products: PackedProducts, factors: RowFactors): boolean {
  if (mixture) return products !== 'thirds'
  const weights = attention ? [attention.queryKeyValue, attention.output] : [mlp.gate, mlp.up, mlp.down]
  return weights.every((weight) => !weight || takesPacked(weight, products, factors.get(weight)))
}

/** Packs the projections of a part, and copies everything else. */
function packPart({ attention, mlp, mixture }: PartWeights, products: PackedProducts, factors: RowFactors): PartWeights<Matrix> {
  const pack = (weight: Tensor2D) => packFor(weight, products, false, factors.get(weight))
  if (attention) {
    const { queryKeyValue, output, ...rest } = attention
    return { attention: { ...cloneTensors(rest), queryKeyValue: pack(queryKeyValue), output: pack(output) } }
  }
  const packMlp = ({ gate, up, down, ...rest }: MlpWeights): MlpWeights<Matrix> => ({
    ...cloneTensors(rest),
    ...(gate ? { gate: pack(gate) } : {}),
    up: pack(up),
    down: pack(down),
  })
  if (mlp) return { mlp: packMlp(mlp) }
  const { experts, shared, ...rest } = mixture
  return {
    mixture: {
      ...cloneTensors(rest),
      experts: experts.map((one) => {
        if (isUnread(one)) return { ...changeExpert(one, packMlp), packed: true }
        return isConstant(one) ? cloneTensors(one) : packMlp(one)
      }),
      ...(shared ? { shared: packMlp(shared) } : {}),
    },
  }
}
