import type { Backend, StoredType, StoredWeight } from '../active.ts'
import { dequantise, type QuantisedType } from './quantised-types.ts'
import { elements } from './sizes.ts'
import type { GgmlTensors } from './tensors.ts'

/**
 * Returns a function that stores a weight on a device in its checkpoint's type. Each type is checked when its first weight is stored. If
 * the check fails, the function returns undefined for every weight of that type.
 */
export function storeOn(tensors: GgmlTensors): NonNullable<Backend['store']> {
  const checked = new Map<string, boolean>()
  return (bytes, type) => {
    const name = typeof type === 'string' ? type : type.name
    const isCorrect = checked.get(name) ?? unpacksCorrectly(tensors, type)
    checked.set(name, isCorrect)
    return isCorrect ? storeWeight(tensors, bytes, type) : undefined
  }
}

function storeWeight(tensors: GgmlTensors, bytes: Uint8Array, type: StoredType): StoredWeight {
  const { dataId } = tensors.writeStored(bytes, type)
  return {
    usesBytes: false,
    unpack(shape) {
      const columns = shape.at(-1) ?? 1
      const rows = elements(shape) / columns
      const everyRow = tensors.write(
        Int32Array.from({ length: rows }, (_, row) => row),
        [rows],
        'int32',
      )
      const stored = [
        { dataId, shape: [rows, columns] },
        { dataId: everyRow, shape: [rows] },
      ]
      const unpacked = tensors.make([...shape], stored, ([weight = 0, indices = 0]) => tensors.operations.rows(weight, indices))
      tensors.disposeData(everyRow)
      return tensors.tensorOf(unpacked)
    },
    dispose: () => void tensors.disposeData(dataId),
  }
}

/**
 * How far a value that the device unpacks may be from the value that libggml-base unpacks, relative to the largest value of the block. A
 * GPU may use fused multiply-add, which rounds differently.
 */
const tolerance = 1e-6

/**
 * The smallest normal float32 number. The spacing of float32 numbers does not shrink below it, so the largest value of a block counts as at
 * least this much.
 */
const smallestNormal = 2 ** -126

/**
 * Returns whether a device unpacks a type to the same values as this process, within the tolerance. A device that flushes subnormal float16
 * numbers to zero fails, because it loses small scales.
 */
function unpacksCorrectly(tensors: GgmlTensors, type: StoredType): boolean {
  if (!tensors.graph.device.unpacks(type)) return false
  // A bfloat16 number is the upper half of a float32 number, so unpacking computes nothing that could go wrong.
  if (type === 'bfloat16') return true
  const { bytes, expected } = type === 'float16' ? subnormalHalves() : pseudorandomBlocks(type)
  const stored = storeWeight(tensors, bytes, type)
  const [count, width] = type === 'float16' ? [expected.length, 1] : [expected.length / type.values, type.values]
  const unpacked = stored.unpack([count, width])
  const found = unpacked.dataSync()
  unpacked.dispose()
  stored.dispose()
  return Array.from({ length: count }, (_, index) => index * width).every((first) => {
    const block = expected.subarray(first, first + width)
    const largest = block.reduce((maximum, value) => Math.max(maximum, Math.abs(value)), smallestNormal)
    // The pseudorandom bits of a scale may encode infinity or NaN. Such blocks are not compared.
    return !Number.isFinite(largest) || block.every((value, i) => Math.abs(value - Number(found[first + i])) <= tolerance * largest)
  })
}

/** Returns all positive subnormal float16 numbers, and their values. */
function subnormalHalves() {
  const bits = Uint16Array.from({ length: 1023 }, (_, i) => i + 1)
  return { bytes: new Uint8Array(bits.buffer), expected: Float32Array.from(bits, (value) => value * 2 ** -24) }
}

/** Returns blocks of pseudorandom bits, some of which have subnormal scales, and their values as this process unpacks them. */
function pseudorandomBlocks(type: QuantisedType) {
  const count = 256
  const bytes = Uint8Array.from({ length: count * type.bytes }, (_, i) => Math.imul(i + 1, 2654435761) >>> 24)
  const expected = new Float32Array(count * type.values)
  dequantise(type, bytes, expected)
  return { bytes, expected }
}
