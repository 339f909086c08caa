import type { Tensor, Tensor2D } from '@tensorflow/tfjs-core'
import type { RuntimeProducts, SixteenBitType } from '../bf16-ops.ts'
import { multipliesIn16Bits } from '../probe.ts'
import type { GgmlTensors } from './tensors.ts'

/** ggml's products with weights in 16 bits. On the processor, ggml rounds the other operand too. */
class GgmlProducts implements RuntimeProducts {
  readonly units: `ggml ${SixteenBitType}`
  readonly #tensors: GgmlTensors
  readonly #type: SixteenBitType

  constructor(tensors: GgmlTensors, type: SixteenBitType) {
    this.units = `ggml ${type}`
    this.#tensors = tensors
    this.#type = type
  }

  pack(weight: Tensor2D): Tensor {
    return this.#tensors.tensorOf(this.#tensors.narrow(weight, this.#type))
  }

  multiply(rows: Tensor2D, { dataId }: Tensor, shape: [number, number]): Tensor2D {
    const { operations } = this.#tensors
    const weight = { dataId, shape: [shape[1], rows.shape[1]] }
    const work = 2 * rows.size * shape[1]
    const made = this.#tensors.make(shape, [rows, weight], ([input = 0, half = 0]) => operations.product(half, input), work)
    return this.#tensors.tensorOf(made) as Tensor2D
  }
}

/**
 * Finds the device's 16-bit products, undefined without. The first call checks them: on Vulkan it compiles shaders that float32 does not need.
 */
export function findRuntimeProducts(tensors: GgmlTensors, type: SixteenBitType): () => RuntimeProducts | undefined {
  let found: { readonly products?: RuntimeProducts } | undefined
  const check = () => {
    const products = new GgmlProducts(tensors, type)
    return tensors.graph.device.multiplies(type) && multipliesIn16Bits(products) ? { products } : {}
  }
  return () => {
    found ??= check()
    return found.products
  }
}
