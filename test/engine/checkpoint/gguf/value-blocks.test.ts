import { describe, expect, it } from 'vitest'
import { quantisedTypes } from '#engine/backend/ggml/quantised-types.ts'
import { type BlockType, blockTypeNamed, bytesOfValues, decodeBlocks, encodeRows } from '#engine/checkpoint/gguf/value-blocks.ts'

/** Values like those of a weight matrix: bell-shaped, with a few outliers. */
function bellShaped(count: number, seed = 1): Float32Array {
  let state = seed
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  return Float32Array.from({ length: count }, (_, i) => {
    const value = Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next()) * 0.03
    return i % 97 === 0 ? 4 * value : value
  })
}

/** Types whose tables take ggml several seconds to prepare; `same-as-llama.test.ts` writes two of them. */
const prepared = ['IQ1_S', 'IQ1_M', 'IQ2_XS', 'IQ2_S']
const width = 256
const equal = new Float32Array(width).fill(1)

async function decoded(values: Float32Array, type: BlockType): Promise<Float32Array> {
  const bytes = await encodeRows(values, type, width, type.dtype ? undefined : equal)
  expect(bytes.byteLength).toBe(bytesOfValues(type, values.length))
  return decodeBlocks(bytes, type)
}

const relativeError = (values: Float32Array, found: Float32Array): number =>
  Math.hypot(...found.map((value, i) => value - (values[i] as number))) / Math.hypot(...values)

describe('blocks', () => {
  it.each([
    ['Q4_0', 0.1043],
    ['Q5_0', 0.0519],
    ['Q8_0', 0.00654],
    ['Q4_K', 0.0785],
    ['Q5_K', 0.0398],
    ['Q6_K', 0.0208],
    ['F16', 0.0003],
    ['BF16', 0.003],
    ['F32', 0],
  ] as const)('hold values as %s with a relative error of at most %d', async (name, most) => {
    const values = bellShaped(16384)
    expect(relativeError(values, await decoded(values, blockTypeNamed(name)))).toBeLessThanOrEqual(most)
  })

  it('of every quantised type are read as they were written, in several pieces as in one', async () => {
    const values = bellShaped(4 * width)
    for (const type of quantisedTypes().filter(({ name }) => !prepared.includes(name))) {
      const whole = await encodeRows(values, type, width, equal)
      const last = await encodeRows(values.subarray(3 * width), type, width, equal)
      expect(whole.subarray(3 * last.byteLength), type.name).toEqual(last)
      expect(relativeError(values, decodeBlocks(whole, type)), type.name).toBeLessThan(1)
    }
  })

  it('are never asked of ggml where it would end the process', async () => {
    const [values, type] = [bellShaped(width), blockTypeNamed('IQ2_XS')]
    await expect(encodeRows(values, type, width)).rejects.toThrow('IQ2_XS needs importances')
    await expect(encodeRows(values, type, 128, equal)).rejects.toThrow('do not fit blocks of 256')
    await expect(encodeRows(values, type, width, equal.subarray(1))).rejects.toThrow('255 importances for rows of 256')
    expect(() => decodeBlocks(new Uint8Array(75), type)).toThrow()
  })
})
