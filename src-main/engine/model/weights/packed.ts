import { type Tensor, tensor } from '@tensorflow/tfjs-core'
import { activeBackend, type StoredHalves } from '#engine/backend/active.ts'
import { releaseBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { countNonFiniteStored, type Dtype, toFloat32 } from '#engine/checkpoint/dtypes.ts'

/** Values as a checkpoint stores them, half the size of float32 where they are 16 bits wide. */
export interface PackedTensor {
  /** How many values are NaN or infinite. Must be asked before the first `unpack`. */
  countNonFinite(): number
  /** The values as float32. The caller disposes of the tensor. */
  unpack(): Tensor
  dispose(): void
}

const halves = { BF16: 'bfloat16', F16: 'float16' } as const

/** Packs stored bytes and takes ownership of their memory: 16-bit values in the runtime, which unpacks them far faster than we could. */
export function pack(bytes: Uint8Array, dtype: Dtype, shape: readonly number[]): PackedTensor {
  const countNonFinite = () => countNonFiniteStored(bytes, dtype)
  const isWhole = bytes.byteLength % 4 === 0 && bytes.byteOffset % 4 === 0
  const type = isWhole && (dtype === 'BF16' || dtype === 'F16') ? halves[dtype] : undefined
  const { halfStore } = activeBackend()
  if (!type || !halfStore?.types.includes(type)) {
    // Float32 tensors use the array in place.
    const dispose = () => (dtype === 'F32' ? undefined : releaseBuffer(bytes))
    return { countNonFinite, unpack: () => tensor(toFloat32(bytes, dtype), [...shape]), dispose }
  }
  let stored: StoredHalves | undefined
  return {
    countNonFinite,
    unpack() {
      if (!stored) {
        stored = halfStore.store(new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), type)
        if (!stored.usesArray) releaseBuffer(bytes)
      }
      return stored.widen(shape)
    },
    dispose() {
      stored?.dispose()
      releaseBuffer(bytes)
    },
  }
}
