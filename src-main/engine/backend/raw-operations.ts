import { backend, reshape, type Tensor } from '@tensorflow/tfjs-core'
import { activeBackend, type StoredWeight } from './active.ts'
import type { SixteenBitType } from './bf16-ops.ts'

/** The part of tfjs-node's backend that runs operations on handles of any type. */
interface Runtime {
  readonly binding: {
    readonly TF_ATTR_TYPE: number
    readonly TF_ATTR_BOOL: number
    createTensor(shape: readonly number[], type: number, values: Int32Array): number
    executeOp(name: string, attributes: readonly object[], inputs: readonly number[], outputs: number): { readonly id: number }[]
    tensorDataSync(id: number): Float32Array
    deleteTensor(id: number): void
  }
  getInputTensorIds(tensors: readonly Tensor[]): number[]
  createOutputTensor(result: { id: number; shape: readonly number[]; dtype: number }): Tensor
}

/** TensorFlow's numbers for its types. */
const types = { float32: 1, float64: 2, int32: 3, bfloat16: 14, float16: 19 } as const

type Type = keyof typeof types

/** A value in the runtime, of any type. Its owner must delete it, because `tidy` does not know it. */
export type Handle = number & { readonly handle: true }

/** Runs TensorFlow's operations on types that tfjs-core does not know. */
export class RawOperations {
  readonly #runtime = backend() as unknown as Runtime

  /** The handle of a tensor. It still belongs to the tensor, so the caller must not delete it. */
  of(tensor: Tensor): Handle {
    return this.#runtime.getInputTensorIds([tensor])[0] as Handle
  }

  /** Creates a vector of 32-bit integers. It uses the array's memory in place if that is aligned. */
  words(values: Int32Array): Handle {
    return this.#runtime.binding.createTensor([values.length], types.int32, values) as Handle
  }

  run(name: string, attributes: readonly object[], ...inputs: readonly Handle[]): Handle {
    return this.runForAll(name, attributes, inputs, 1)[0] as Handle
  }

  runForAll(name: string, attributes: readonly object[], inputs: readonly Handle[], outputs: number): Handle[] {
    return this.#runtime.binding.executeOp(name, attributes, inputs, outputs).map(({ id }) => id as Handle)
  }

  cast(value: Handle, from: Type, to: Type): Handle {
    return this.run('Cast', [this.type('SrcT', from), this.type('DstT', to), this.flag('Truncate', false)], value)
  }

  /**
   * Stores 16-bit values, two in each 32-bit word, using the bytes in place if they are aligned. Undefined if they do not fill whole words.
   */
  storeIn16Bits(bytes: Uint8Array, type: SixteenBitType): StoredWeight | undefined {
    if (bytes.byteLength % 4 !== 0 || bytes.byteOffset % 4 !== 0) return undefined
    const values = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    const words = this.words(values)
    // The cast of words to 16-bit values adds a last dimension of two, which `unpack` removes.
    const stored = this.run('Bitcast', [this.type('T', 'int32'), this.type('type', type)], words)
    this.delete(words)
    return {
      usesBytes: true,
      unpack: (shape) => {
        const pairs = this.tensor(this.cast(stored, type, 'float32'), [values.length, 2])
        const unpacked = reshape(pairs, [...shape])
        pairs.dispose()
        return unpacked
      },
      dispose: () => this.delete(stored),
    }
  }

  /** Turns a float32 handle into a tensor that owns it. */
  tensor(value: Handle, shape: readonly number[]): Tensor {
    return this.#runtime.createOutputTensor({ id: value, shape, dtype: types.float32 })
  }

  /**
   * Turns a handle of `count` 16-bit values into a tensor that owns it. The tensor is counted, tidied and disposed of like any other, but
   * only `of` can reach its values: its shape only tells how much memory it uses, and operations on float32 refuse its type.
   */
  box(value: Handle, count: number): Tensor {
    return this.tensor(value, [Math.ceil(count / 2)])
  }

  /** Reads the numbers of a float32 handle. */
  read(value: Handle): Float32Array {
    return this.#runtime.binding.tensorDataSync(value)
  }

  delete(...values: readonly Handle[]): void {
    for (const value of values) this.#runtime.binding.deleteTensor(value)
  }

  type(name: string, type: Type): object {
    return { name, type: this.#runtime.binding.TF_ATTR_TYPE, value: types[type] }
  }

  flag(name: string, value: boolean): object {
    return { name, type: this.#runtime.binding.TF_ATTR_BOOL, value }
  }
}

/** The runtime's own operations; undefined if the backend is not TensorFlow. */
export function rawOperations(): RawOperations | undefined {
  return activeBackend().name.startsWith('tensorflow') ? new RawOperations() : undefined
}
