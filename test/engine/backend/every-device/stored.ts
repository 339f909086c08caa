import { memory } from '@tensorflow/tfjs-core'
import { expect, test } from 'vitest'
import { activeBackend } from '#engine/backend/active.ts'
import { alignedBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { pack } from '#engine/model/weights/packed.ts'
import type { TestedDevice } from './devices.ts'

/** Every finite 16-bit pattern, subnormal numbers included. */
function everyFinite(exponent: number): Uint8Array {
  return new Uint8Array(Uint16Array.from({ length: 65536 }, (_, bits) => bits).filter((bits) => (bits & exponent) !== exponent).buffer)
}

/** Compares values that a device stores in 16 bits with what went in. */
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

  test('stores both types, except a GPU that may lose subnormal numbers', () => {
    expect(activeBackend().halfStore?.types).toEqual(device === 'ggml-vulkan' ? ['bfloat16'] : ['bfloat16', 'float16'])
  })
}
