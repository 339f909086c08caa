import type { Tensor2D } from '@tensorflow/tfjs-core'
import { isConstant } from '#engine/architectures/spec.ts'
import { cloneTensors } from '#engine/tensor/clone.ts'
import { isHalf, type Matrix, type Products, packFor, takesPacked } from '#engine/tensor/products.ts'
import { changeExpert } from './views/gather-mixture.ts'
import type { ModelView } from './views/view.ts'
import { disposePart } from './weights/unpack.ts'
import { isUnread, type MlpWeights, type Part, type PartWeights } from './weights/weights.ts'

type PackedProducts = Exclude<Products, 'float32'>

/**
 * The weights of a view's parts, packed for products of 16-bit operands. They are packed each time, because packing costs as much as
 * reading and saves memory; or once, if walks have few rows and weights are not streamed. Parts that these products do not take stay in
 * float32.
 */
export class HalfParts {
  readonly #view: ModelView
  readonly #products: PackedProducts
  readonly #keeps: boolean
  readonly #kept = new Map<Part, PartWeights<Matrix>>()

  constructor(view: ModelView, products: PackedProducts, keeps: boolean) {
    this.#view = view
    this.#products = products
    this.#keeps = keeps && !view.model.store.streams
  }

  /** Weights of a part until `release`: packed, or the view's own. */
  async lease(part: Part, next: Part | undefined): Promise<PartWeights<Matrix>> {
    const kept = this.#kept.get(part)
    if (kept) return kept
    const whole = await this.#view.lease(part, next)
    if (!isTaken(whole, this.#products)) return whole
    try {
      const packed = packPart(whole, this.#products)
      if (this.#keeps) this.#kept.set(part, packed)
      return packed
    } finally {
      this.#view.release(part, whole)
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
export function hasHalves({ attention, mlp, mixture }: PartWeights<Matrix>): boolean {
  if (attention) return isHalf(attention.output)
  const first = mlp ?? mixture.experts.find((one) => !isConstant(one))
  if (first === undefined || isConstant(first)) return false
  return isUnread(first) ? first.halves === true : isHalf(first.down)
}

/** Whether products take all projections of a part. Experts may be read one by one, so with `thirds` a mixture is computed in float32. */
function isTaken({ attention, mlp, mixture }: PartWeights, products: PackedProducts): boolean {
  if (mixture) return products !== 'thirds'
  const weights = attention ? [attention.queryKeyValue, attention.output] : [mlp.gate, mlp.up, mlp.down]
  return weights.every((weight) => !weight || takesPacked(weight, products))
}

/** The packed projections of a part. Everything else is copied. */
function packPart({ attention, mlp, mixture }: PartWeights, products: PackedProducts): PartWeights<Matrix> {
  const pack = (weight: Tensor2D) => packFor(weight, products)
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
        if (isUnread(one)) return { ...changeExpert(one, packMlp), halves: true }
        return isConstant(one) ? cloneTensors(one) : packMlp(one)
      }),
      ...(shared ? { shared: packMlp(shared) } : {}),
    },
  }
}
