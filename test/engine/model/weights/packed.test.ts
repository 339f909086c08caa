import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { alignedBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { pack } from '#engine/model/weights/packed.ts'

beforeAll(async () => {
  await openBackend('tensorflow')
})

/** Every finite 16-bit pattern, subnormal numbers included. */
function everyFinite(exponent: number): Uint8Array {
  return new Uint8Array(Uint16Array.from({ length: 65536 }, (_, bits) => bits).filter((bits) => (bits & exponent) !== exponent).buffer)
}

test.each([
  ['BF16', everyFinite(0x7f80)],
  ['F16', everyFinite(0x7c00)],
] as const)('%s comes out of the runtime as every value went in, and can be unpacked again', (dtype, bytes) => {
  const { numTensors } = memory()
  const shape = [2, bytes.length / 4]
  const own = alignedBuffer(bytes.length)
  own.set(bytes)
  const packed = pack(own, dtype, shape)
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

test('values that do not fill whole words, or of another type, are unpacked in JavaScript', () => {
  const odd = pack(Uint8Array.from([0x80, 0x3f, 0x00, 0xc0, 0x20, 0x41]), 'BF16', [3]).unpack()
  expect([...odd.dataSync()]).toEqual([1, -2, 10])
  const wide = pack(new Uint8Array(Float32Array.from([0.1, 3]).buffer), 'F32', [2]).unpack()
  expect([...wide.dataSync()]).toEqual([Math.fround(0.1), 3])
  odd.dispose()
  wide.dispose()
})
