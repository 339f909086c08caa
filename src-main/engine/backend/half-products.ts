import type { Tensor, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core'
import type { HalfType, HalfUnits, RuntimeProducts } from './halves.ts'
import { type Handle, RawOperations } from './raw-operations.ts'

/** TensorFlow's own products of 16-bit operands. TensorFlow adds in float32 and rounds each sum to 16 bits. */
export class HalfProducts implements RuntimeProducts {
  readonly units: HalfUnits
  readonly #type: HalfType
  readonly #raw = new RawOperations()

  constructor(type: HalfType) {
    this.#type = type
    this.units = `TensorFlow ${type}`
  }

  /** The result is boxed; see `RawOperations.box`. */
  pack(weight: Tensor2D): Tensor {
    return this.#raw.box(this.#rounded(weight), weight.size)
  }

  multiply(rows: Tensor2D, weight: Tensor, shape: [number, number]): Tensor2D {
    const attributes = [this.#raw.flag('transpose_a', false), this.#raw.flag('transpose_b', true)]
    const rounded = this.#rounded(rows)
    const product = this.#run('MatMul', attributes, rounded, this.#raw.of(weight))
    this.#raw.delete(rounded)
    return this.#widened(product, shape) as Tensor2D
  }

  multiplyBatch(a: Tensor3D, b: Tensor3D, transposeB: boolean): Tensor3D {
    const operands = [this.#rounded(a), this.#rounded(b)]
    const attributes = [this.#raw.flag('adj_x', false), this.#raw.flag('adj_y', transposeB)]
    const product = this.#run('BatchMatMulV2', attributes, ...operands)
    this.#raw.delete(...operands)
    return this.#widened(product, [a.shape[0], a.shape[1], b.shape[transposeB ? 1 : 2]]) as Tensor3D
  }

  #rounded(values: Tensor): Handle {
    return this.#raw.cast(this.#raw.of(values), 'float32', this.#type)
  }

  #run(name: string, attributes: readonly object[], ...operands: Handle[]): Handle {
    return this.#raw.run(name, [...attributes, this.#raw.type('T', this.#type)], ...operands)
  }

  /** Converts a product to float32 and deletes its 16-bit values. */
  #widened(product: Handle, shape: number[]): Tensor {
    const wide = this.#raw.tensor(this.#raw.cast(product, this.#type, 'float32'), shape)
    this.#raw.delete(product)
    return wide
  }
}
