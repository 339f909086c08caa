import { reshape, type Tensor, tensor } from '@tensorflow/tfjs-core'
import { rawOperations } from '#engine/backend/raw-operations.ts'
import { releaseBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { countNonFiniteStored, type Dtype, toFloat32 } from '#engine/checkpoint/dtypes.ts'

/** Values as a checkpoint stores them, half the size of float32 where they are 16 bits wide. */
export interface PackedTensor {
  /** How many values are NaN or infinite. */
  countNonFinite(): number
  /** The values as float32. The caller disposes of the tensor. */
  unpack(): Tensor
  dispose(): void
}

const halves = { BF16: 'bfloat16', F16: 'float16' } as const

/** Packs stored bytes and takes ownership of their memory: 16-bit values in the runtime, which unpacks them far faster than we could. */
export function pack(bytes: Uint8Array, dtype: Dtype, shape: readonly number[]): PackedTensor {
  const countNonFinite = () => countNonFiniteStored(bytes, dtype)
  const raw = rawOperations()
  const isWhole = bytes.byteLength % 4 === 0 && bytes.byteOffset % 4 === 0
  if (!raw || !isWhole || (dtype !== 'BF16' && dtype !== 'F16')) {
    // Float32 tensors use the array in place.
    const dispose = () => (dtype === 'F32' ? undefined : releaseBuffer(bytes))
    return { countNonFinite, unpack: () => tensor(toFloat32(bytes, dtype), [...shape]), dispose }
  }
  const type = halves[dtype]
  const words = raw.words(new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4))
  // Two values share a word: a last dimension of two, which `unpack` removes.
  const packed = raw.run('Bitcast', [raw.type('T', 'int32'), raw.type('type', type)], words)
  raw.delete(words)
  return {
    countNonFinite,
    unpack() {
      const pairs = raw.tensor(raw.cast(packed, type, 'float32'), [bytes.byteLength / 4, 2])
      const values = reshape(pairs, [...shape])
      pairs.dispose()
      return values
    },
    dispose() {
      raw.delete(packed)
      releaseBuffer(bytes)
    },
  }
}
