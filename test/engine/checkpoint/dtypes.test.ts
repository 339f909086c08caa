import { describe, expect, it } from 'vitest'
import { alignedBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { countNonFinite, countNonFiniteStored, fromFloat32, toFloat32 } from '#engine/checkpoint/dtypes.ts'

const all = Uint16Array.from({ length: 65536 }, (_, bits) => bits)
const allBytes = new Uint8Array(all.buffer)

/** The value of a small float, by the definition of its format. */
function value(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >>> fractionBits) & (2 ** exponentBits - 1)
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits
  const bias = 2 ** (exponentBits - 1) - 1
  if (exponent === 2 ** exponentBits - 1) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias))
}

for (const [dtype, exponentBits, fractionBits] of [
  ['F16', 5, 10],
  ['BF16', 8, 7],
] as const) {
  describe(dtype, () => {
    const floats = toFloat32(allBytes, dtype)

    it('reads each of its 65536 values', () => {
      const wrong = [...all].filter((bits) => !Object.is(floats[bits], value(bits, exponentBits, fractionBits)))
      expect(wrong).toEqual([])
    })

    it('writes each of its values back to the same bits', () => {
      const back = new Uint16Array(fromFloat32(floats, dtype).buffer)
      const wrong = [...all].filter((bits) =>
        Number.isNaN(floats[bits]) ? !Number.isNaN(value(back[bits] ?? 0, exponentBits, fractionBits)) : back[bits] !== bits,
      )
      expect(wrong).toEqual([])
    })

    it('rounds to the nearest value, and halfway to the even one', () => {
      const largest = value(2 ** 15 - 2 ** fractionBits - 1, exponentBits, fractionBits)
      for (let bits = 0; floats[bits + 1] !== undefined && (floats[bits + 1] as number) <= largest; bits++) {
        const low = floats[bits] as number
        const step = ((floats[bits + 1] as number) - low) / 4
        const between = Float32Array.of(low + step, low + 2 * step, low + 3 * step)
        if (between[1] !== low + 2 * step) continue
        const rounded = [...new Uint16Array(fromFloat32(between, dtype).buffer)]
        if (between[0] === low + step) expect(rounded[0]).toBe(bits)
        expect(rounded[1]).toBe(bits % 2 === 0 ? bits : bits + 1)
        if (between[2] === low + 3 * step) expect(rounded[2]).toBe(bits + 1)
      }
    })
  })
}

describe('other types', () => {
  it('are read as the nearest float32', () => {
    expect([...toFloat32(new Uint8Array(Float64Array.of(1 / 3, -(2 ** 60)).buffer), 'F64')]).toEqual([Math.fround(1 / 3), -(2 ** 60)])
    expect([...toFloat32(new Uint8Array(BigInt64Array.of(-5n, 2n ** 40n + 1n).buffer), 'I64')]).toEqual([-5, 2 ** 40])
    expect([...toFloat32(new Uint8Array(BigUint64Array.of(2n ** 63n).buffer), 'U64')]).toEqual([2 ** 63])
    expect([...toFloat32(Uint8Array.of(255, 1), 'I8')]).toEqual([-1, 1])
    expect([...toFloat32(Uint8Array.of(255, 1), 'U8')]).toEqual([255, 1])
    expect([...toFloat32(Uint8Array.of(0xfe, 0xff), 'I16')]).toEqual([-2])
    expect([...toFloat32(Uint8Array.of(0xfe, 0xff, 0xff, 0xff), 'U32')]).toEqual([2 ** 32])
  })

  it('are read from memory that is not aligned to them', () => {
    const bytes = new Uint8Array(9)
    bytes.set(new Uint8Array(Float32Array.of(1.5, -2).buffer), 1)
    expect([...toFloat32(bytes.subarray(1), 'F32')]).toEqual([1.5, -2])
    expect([...toFloat32(Buffer.from([0, 0x80, 0x3f]).subarray(1), 'BF16')]).toEqual([1])
  })
})

describe('long arrays', () => {
  it('convert beyond the size of a chunk', () => {
    const values = Float32Array.from({ length: 100_003 }, (_, i) => i % 251)
    expect(toFloat32(fromFloat32(values, 'BF16'), 'BF16')).toEqual(values)
    expect(toFloat32(fromFloat32(values, 'F16'), 'F16')).toEqual(values)
  })

  it('in float32 are a view, not a copy', () => {
    const memory = alignedBuffer(1 << 20)
    const floats = toFloat32(memory, 'F32')
    memory.set([0, 0, 0x80, 0x3f], (1 << 20) - 4)
    expect(floats.at(-1)).toBe(1)
  })

  it('have their NaN and infinite values counted', () => {
    const values = new Float32Array(50_000).fill(3e38)
    values[3] = Number.NaN
    values[49_999] = Number.NEGATIVE_INFINITY
    expect(countNonFinite(values)).toBe(2)
    expect(countNonFinite(values.subarray(4, 49_999))).toBe(0)
  })

  it.each(['BF16', 'F16', 'F32'] as const)('stored as %s have them counted without being converted', (dtype) => {
    const values = new Float32Array(50_000).fill(60_000)
    values[3] = Number.NaN
    values[49_998] = Number.POSITIVE_INFINITY
    values[49_999] = Number.NEGATIVE_INFINITY
    expect(countNonFiniteStored(fromFloat32(values, dtype), dtype)).toBe(3)
    expect(countNonFiniteStored(fromFloat32(values.subarray(0, 5), dtype), dtype)).toBe(1)
    expect(countNonFiniteStored(fromFloat32(values.subarray(4, 40_000), dtype), dtype)).toBe(0)
  })
})
