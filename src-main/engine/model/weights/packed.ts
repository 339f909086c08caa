import { type Tensor, tensor } from '@tensorflow/tfjs-core'
import { activeBackend, type StoredType, type StoredWeight } from '#engine/backend/active.ts'
import type { QuantisedType } from '#engine/backend/ggml/quantised-types.ts'
import { releaseBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { countNonFinite, countNonFiniteStored, type Dtype, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { decodeBlocks } from '#engine/checkpoint/gguf/blocks.ts'

/** A tensor's values as a checkpoint stores them. 16-bit values take half the memory of float32, and quantised values less. */
export interface PackedTensor {
  /** Counts the values that are NaN or infinite. Call it before the first `unpack`, which may release the bytes. */
  countNonFinite(): number
  /** Returns the values as a float32 tensor, which the caller disposes of. */
  unpack(): Tensor
  dispose(): void
}

const halves = { BF16: 'bfloat16', F16: 'float16' } as const

/** The type in which a runtime may be able to store such values as they are; undefined for types that none stores. */
function storedType(type: Dtype | QuantisedType): StoredType | undefined {
  if (typeof type !== 'string') return type
  return type === 'BF16' || type === 'F16' ? halves[type] : undefined
}

/**
 * Packs stored bytes, whose memory it takes over. On the first `unpack` they move into the runtime, if it can unpack their type itself,
 * which is faster than unpacking in this process.
 */
export function pack(bytes: Uint8Array, type: Dtype | QuantisedType, shape: readonly number[]): PackedTensor {
  const ofRuntime = storedType(type)
  let stored: StoredWeight | undefined
  /** Values that `countNonFinite` has unpacked, kept for the next `unpack`. */
  let counted: Float32Array | undefined
  const unpackHere = () => {
    const values = counted ?? (typeof type === 'string' ? toFloat32(bytes, type) : decodeBlocks(bytes, type))
    counted = undefined
    return tensor(values, [...shape])
  }
  return {
    countNonFinite() {
      if (typeof type === 'string') return countNonFiniteStored(bytes, type)
      counted = decodeBlocks(bytes, type)
      return countNonFinite(counted)
    },
    unpack() {
      if (counted || !ofRuntime) return unpackHere()
      if (!stored) {
        stored = activeBackend().store?.(bytes, ofRuntime)
        if (stored && !stored.usesBytes) releaseBuffer(bytes)
      }
      return stored?.unpack(shape) ?? unpackHere()
    },
    dispose() {
      stored?.dispose()
      // Float32 tensors made from the bytes may still use them in place.
      if (type !== 'F32') releaseBuffer(bytes)
    },
  }
}
