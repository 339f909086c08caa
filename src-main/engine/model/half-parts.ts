import { type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { isConstant } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import type { HalfMatrix, HalfMlp } from '#engine/backend/halves.ts'
import { fusedNorm } from '#engine/tensor/norm.ts'
import { isHalf, type Matrix, type Products, packFor, takesPacked } from '#engine/tensor/products.ts'
import { halfUnits } from '#engine/tensor/runtime-halves.ts'
import { cloneTensors } from '#engine/tensor/tidied.ts'
import { type CallContext, mixHeads, type NeuronSums, type Residual } from './decoder.ts'
import { changeExpert } from './views/gather-mlp.ts'
import type { ModelView } from './views/view.ts'
import { disposePart, type RowFactors, rowFactors } from './weights/unpack.ts'
import { blockOf, isUnread, type MlpWeights, type Part, type PartWeights } from './weights/weights.ts'

type PackedProducts = Exclude<Products, 'float32'>

/**
 * The weights of a view's parts, packed for products of 16-bit operands. By default they are packed again for each lease, because this
 * costs only as much as reading them and saves memory. With `keeps` they are packed once, unless weights are streamed. Parts that these
 * products cannot take stay in float32.
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
export function hasHalves({ attention, mlp, mixture }: PartWeights<Matrix>): boolean {
  if (attention) return isHalf(attention.output)
  const first = mlp ?? mixture.experts.find((one) => !isConstant(one))
  if (first === undefined || isConstant(first)) return false
  return isUnread(first) ? first.halves === true : isHalf(first.down)
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
        if (isUnread(one)) return { ...changeExpert(one, packMlp), halves: true }
        return isConstant(one) ? cloneTensors(one) : packMlp(one)
      }),
      ...(shared ? { shared: packMlp(shared) } : {}),
    },
  }
}

/**
 * Runs a part with packed weights in one to three operations, which include its norm, the addition to the stream and everything between the
 * products. Returns the stream after the part, or undefined if these operations do not cover the part.
 */
export function runHalfPart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): Tensor2D | undefined {
  const { attention, mlp } = weights as PartWeights<HalfMatrix>
  if (!attention && !mlp) return undefined
  const { spec } = call
  const halves = halfUnits()
  const scale = spec.residualScale ?? 1
  if (attention) {
    const { norm, outputNorm, shortcut, delta, queryKeyValue, queryKeyValueBias, output, outputBias } = attention
    if (outputNorm || shortcut || delta) return undefined
    return tidy(() => {
      const projected = halves.product(residual.x, queryKeyValue, { norm: norm && fusedNorm(norm, residual.x), bias: queryKeyValueBias })
      const mixed = mixHeads(projected, attention, blockOf(part), call)
      return halves.product(mixed, output, { bias: outputBias, add: residual.x, scale })
    })
  }
  const { norm, outputNorm, shortcut } = mlp
  if (outputNorm || shortcut) return undefined
  const source = spec.parallelResidual ? residual.source : residual.x
  const described: HalfMlp = { ...mlp, norm: norm && fusedNorm(norm, source), activation: spec.activation, scale }
  if (!call.sumNeurons) return halves.mlp(residual.x, source, described)
  return sumHalfPart(residual.x, source, described, call.tokens, call.sumNeurons)
}

/** Runs an MLP like this and passes sums of its neurons to `take`. The neurons themselves are never stored. */
function sumHalfPart(x: Tensor2D, source: Tensor2D, mlp: HalfMlp, tokens: number, take: (sums: NeuronSums) => void): Tensor2D | undefined {
  const { halves } = activeBackend()
  if (!halves || tokens % 32 > 0) return undefined
  const [after, sums] = halves.summedMlp(x, source, mlp, tokens)
  const values = sums.dataSync()
  sums.dispose()
  take((of) => (of === 'magnitudes' ? values.subarray(0, values.length / 2) : values.subarray(values.length / 2)))
  return after
}
