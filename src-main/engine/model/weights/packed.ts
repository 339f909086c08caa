import { type Tensor, tensor } from '@tensorflow/tfjs-core'
import { activeBackend, type StoredType, type StoredWeight } from '#engine/backend/active.ts'
import type { QuantisedType } from '#engine/backend/ggml/quantised-types.ts'
import { releaseBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { countNonFinite, countNonFiniteStored, type Dtype, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { decodeBlocks } from '#engine/checkpoint/gguf/blocks.ts'

/** Values as a checkpoint stores them: half the size of float32 where they are 16 bits wide, less where they are quantised. */
export interface PackedTensor {
  /** How many values are NaN or infinite. Must be asked before the first `unpack`. */
  countNonFinite(): number
  /** The values as float32. The caller disposes of the tensor. */
  unpack(): Tensor
  dispose(): void
}

const halves = { BF16: 'bfloat16', F16: 'float16' } as const

/** The type in which a runtime may keep values. */
function storedType(type: Dtype | QuantisedType): StoredType | undefined {
  if (typeof type !== 'string') return type
  return type === 'BF16' || type === 'F16' ? halves[type] : undefined
}

/** Packs stored bytes and takes ownership of their memory. They are in the runtime if it can unpack them, faster than this process could. */
export function pack(bytes: Uint8Array, type: Dtype | QuantisedType, shape: readonly number[]): PackedTensor {
  const ofRuntime = storedType(type)
  let stored: StoredWeight | undefined
  /** Values that were only counted so far. */
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
      // Float32 tensors use the bytes in place.
      if (type !== 'F32') releaseBuffer(bytes)
    },
  }
}
