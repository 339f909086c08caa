import type { Backend, StoredType, StoredWeight } from '../active.ts'
import { dequantise, type QuantisedType } from './quantised-types.ts'
import { elements } from './sizes.ts'
import type { GgmlTensors } from './tensors.ts'

/** Keeps weights on a device as checkpoints store them. A type is checked when it first comes. */
export function storeOn(tensors: GgmlTensors): NonNullable<Backend['store']> {
  const checked = new Map<string, boolean>()
  return (bytes, type) => {
    const name = typeof type === 'string' ? type : type.name
    const isRight = checked.get(name) ?? unpacksRight(tensors, type)
    checked.set(name, isRight)
    return isRight ? storeWeight(tensors, bytes, type) : undefined
  }
}

function storeWeight(tensors: GgmlTensors, bytes: Uint8Array, type: StoredType): StoredWeight {
  const { dataId } = tensors.writeStored(bytes, type)
  return {
    usesBytes: false,
    unpack(shape) {
      const columns = shape.at(-1) ?? 1
      const rows = elements(shape) / columns
      const all = tensors.write(
        Int32Array.from({ length: rows }, (_, row) => row),
        [rows],
        'int32',
      )
      const stored = [
        { dataId, shape: [rows, columns] },
        { dataId: all, shape: [rows] },
      ]
      const made = tensors.make([...shape], stored, ([own = 0, numbers = 0]) => tensors.operations.rows(own, numbers))
      tensors.disposeData(all)
      return tensors.tensorOf(made)
    },
    dispose: () => void tensors.disposeData(dataId),
  }
}

/** How far an unpacked value may be from libggml-base's, relative to the largest of its block: a GPU may fuse a product with a sum. */
const tolerance = 1e-6

/** Below this, the numbers of a GPU may be zero. */
const leastNormal = 2 ** -126

/** Whether a device unpacks a type to the values that this process would. GPUs may take subnormal numbers of 16 bits for zero. */
function unpacksRight(tensors: GgmlTensors, type: StoredType): boolean {
  if (!tensors.graph.device.unpacks(type)) return false
  // The upper half of a float32 number: there is nothing to compute.
  if (type === 'bfloat16') return true
  const { bytes, expected } = type === 'float16' ? subnormalHalves() : anyBlocks(type)
  const stored = storeWeight(tensors, bytes, type)
  const [count, width] = type === 'float16' ? [expected.length, 1] : [expected.length / type.values, type.values]
  const unpacked = stored.unpack([count, width])
  const found = unpacked.dataSync()
  unpacked.dispose()
  stored.dispose()
  return Array.from({ length: count }, (_, block) => block * width).every((first) => {
    const own = expected.subarray(first, first + width)
    const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), leastNormal)
    // Scales of random bits may be infinite.
    return !Number.isFinite(largest) || own.every((value, i) => Math.abs(value - Number(found[first + i])) <= tolerance * largest)
  })
}

function subnormalHalves() {
  const bits = Uint16Array.from({ length: 1023 }, (_, i) => i + 1)
  return { bytes: new Uint8Array(bits.buffer), expected: Float32Array.from(bits, (value) => value * 2 ** -24) }
}

/** Blocks of many bits, subnormal scales among them. */
function anyBlocks(type: QuantisedType) {
  const count = 256
  const bytes = Uint8Array.from({ length: count * type.bytes }, (_, i) => Math.imul(i + 1, 2654435761) >>> 24)
  const expected = new Float32Array(count * type.values)
  dequantise(type, bytes, expected)
  return { bytes, expected }
}
