import { memory } from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { activeBackend, type StoredType } from '#engine/backend/active.ts'
import { quantisedTypes } from '#engine/backend/ggml/quantised-types.ts'
import { alignedBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { decodeBlocks } from '#engine/checkpoint/gguf/value-blocks.ts'
import { pack } from '#engine/model/weights/weights.ts'
import type { TestedDevice } from './devices.ts'

/** Every finite 16-bit pattern, subnormal numbers included. */
function everyFinite(exponent: number): Uint8Array {
  return new Uint8Array(Uint16Array.from({ length: 65536 }, (_, bits) => bits).filter((bits) => (bits & exponent) !== exponent).buffer)
}

/** Compares values that a device stores as a checkpoint does with what went in. */
export function testStored(device: TestedDevice): void {
  test.each([
    ['BF16', everyFinite(0x7f80)],
    ['F16', everyFinite(0x7c00)],
  ] as const)('%s comes out of the runtime as every value went in, and can be unpacked again', (dtype, bytes) => {
    const { numTensors } = memory()
    const shape = [2, bytes.length / 4]
    const own = alignedBuffer(bytes.length)
    own.set(bytes)
    const packed = pack(own, dtype, shape)
    expect(packed.countNonFinite()).toBe(0)
    const expected = toFloat32(bytes, dtype)
    for (let times = 0; times < 2; times++) {
      const values = packed.unpack()
      expect(values.shape).toEqual(shape)
      expect(new Uint32Array((values.dataSync() as Float32Array).slice().buffer)).toEqual(new Uint32Array(expected.slice().buffer))
      values.dispose()
    }
    packed.dispose()
    expect(own.byteLength, 'its memory is given back').toBe(0)
    expect(memory().numTensors).toBe(numTensors)
  })

  test.each(quantisedTypes().map((type) => [type.name, type] as const))('%s is unpacked to the values that ggml gives it', (_, type) => {
    const { numTensors } = memory()
    // Above 64 KiB, memory can be given back.
    const [rows, perRow] = [6, Math.ceil(12288 / type.bytes)]
    const bytes = Uint8Array.from({ length: rows * perRow * type.bytes }, (_, i) => Math.imul(i + 7, 2246822519) >>> 24)
    const expected = decodeBlocks(bytes, type)
    const own = alignedBuffer(bytes.length)
    own.set(bytes)
    const packed = pack(own, type, [rows, perRow * type.values])
    for (let times = 0; times < 2; times++) {
      const values = packed.unpack()
      const found = values.dataSync() as Float32Array
      values.dispose()
      if (device === 'ggml-vulkan') expectNear(found, expected, type.values)
      else expect(Buffer.compare(Buffer.from(found.slice().buffer), Buffer.from(expected.slice().buffer))).toBe(0)
    }
    packed.dispose()
    expect(own.byteLength, 'its memory is given back').toBe(0)
    expect(memory().numTensors).toBe(numTensors)
  })

  test('ggml stores every type on its device, except two on Vulkan, and TensorFlow those of 16 bits', () => {
    const halves = ['bfloat16', 'float16'] as const
    const stores = (type: StoredType) => {
      const stored = activeBackend().store?.(new Uint8Array(8192), type)
      stored?.dispose()
      return stored !== undefined
    }
    expect(halves.filter(stores)).toEqual(halves)
    const refused = quantisedTypes().filter((type) => !stores(type))
    if (device === 'tensorflow-cpu') expect(refused).toEqual(quantisedTypes())
    else expect(refused.map(({ name }) => name)).toEqual(device === 'ggml-vulkan' ? ['TQ1_0', 'NVFP4'] : [])
  })
}

/** Shaders may fuse a product with a sum. Blocks whose random scale is not finite are left out. */
function expectNear(found: Float32Array, expected: Float32Array, width: number): void {
  const starts = Array.from({ length: expected.length / width }, (_, block) => block * width)
  const wrong = starts.filter((first) => {
    const own = expected.subarray(first, first + width)
    const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    return Number.isFinite(largest) && own.some((value, i) => Math.abs(at(found, first + i) - value) > 1e-6 * largest)
  })
  expect(wrong).toEqual([])
}
