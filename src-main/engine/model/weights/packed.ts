import { type Tensor, tensor } from '@tensorflow/tfjs-core'
import { activeBackend, type StoredHalves } from '#engine/backend/active.ts'
import { releaseBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { countNonFinite, countNonFiniteStored, type Dtype, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { type BlockType, decodeBlocks } from '#engine/checkpoint/gguf/blocks.ts'

/** Values as a checkpoint stores them: half the size of float32 where they are 16 bits wide, less where they are quantised. */
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
  const countStored = () => countNonFiniteStored(bytes, dtype)
  const isWhole = bytes.byteLength % 4 === 0 && bytes.byteOffset % 4 === 0
  const type = isWhole && (dtype === 'BF16' || dtype === 'F16') ? halves[dtype] : undefined
  const { halfStore } = activeBackend()
  if (!type || !halfStore?.types.includes(type)) {
    // Float32 tensors use the array in place.
    const dispose = () => (dtype === 'F32' ? undefined : releaseBuffer(bytes))
    return { countNonFinite: countStored, unpack: () => tensor(toFloat32(bytes, dtype), [...shape]), dispose }
  }
  let stored: StoredHalves | undefined
  return {
    countNonFinite: countStored,
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

/** The same for quantised blocks of a GGUF file. */
export function packBlocks(blocks: Uint8Array, type: BlockType, shape: readonly number[]): PackedTensor {
  /** Values that were only counted so far. */
  let counted: Float32Array | undefined
  return {
    countNonFinite() {
      counted = decodeBlocks(blocks, type)
      return countNonFinite(counted)
    },
    unpack() {
      const values = counted ?? decodeBlocks(blocks, type)
      counted = undefined
      return tensor(values, [...shape])
    },
    dispose: () => releaseBuffer(blocks),
  }
}
