import type { Tensor2D } from '@tensorflow/tfjs-core'
import { isConstant } from '#engine/architectures/spec.ts'
import { cloneTensors } from '#engine/tensor/clone.ts'
import { halfUnits } from '#engine/tensor/half-units.ts'
import { isHalf, type Matrix, type Products } from '#engine/tensor/products.ts'
import { changeExpert } from './views/gather-mixture.ts'
import type { ModelView } from './views/view.ts'
import { disposePart } from './weights/unpack.ts'
import { isUnread, type MlpWeights, type Part, type PartWeights } from './weights/weights.ts'

/**
 * The weights of a view's parts, packed for products of 16-bit operands. They are packed each time, because packing costs as much as
 * reading and saves memory; or once, if walks have few rows and weights are not streamed.
 */
export class HalfParts {
  readonly #view: ModelView
  readonly #split: boolean
  readonly #keeps: boolean
  readonly #kept = new Map<Part, PartWeights<Matrix>>()

  constructor(view: ModelView, products: Exclude<Products, 'float32'>, keeps: boolean) {
    this.#view = view
    this.#split = products === 'split'
    this.#keeps = keeps && !view.model.store.streams
  }

  /** Packed weights of a part until `release`. */
  async lease(part: Part, next: Part | undefined): Promise<PartWeights<Matrix>> {
    const kept = this.#kept.get(part)
    if (kept) return kept
    const whole = await this.#view.lease(part, next)
    try {
      const packed = packPart(whole, this.#split)
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

/** The packed projections of a part. Everything else is copied. */
function packPart({ attention, mlp, mixture }: PartWeights, split: boolean): PartWeights<Matrix> {
  const pack = (weight: Tensor2D) => halfUnits().pack(weight, split)
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
