import { describe, expect, it } from 'vitest'
import { blockTypes, decodeBlocks } from '#engine/checkpoint/gguf/blocks.ts'
import { type EncodedTypeName, encodedBytes, encodedTypes, encodeValues } from '#engine/checkpoint/gguf/encode-blocks.ts'

/** Values like a matrix's: bell-shaped, with a few outliers. */
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

function decoded(values: Float32Array, name: EncodedTypeName): Float32Array {
  const type = blockTypes[encodedTypes[name].number]
  if (!type) throw new Error(`${name} is not read`)
  const bytes = encodeValues(values, name)
  expect(bytes.byteLength).toBe(encodedBytes(name, values.length))
  return decodeBlocks(bytes, type)
}

function relativeError(values: Float32Array, name: EncodedTypeName): number {
  const found = decoded(values, name)
  let [error, size] = [0, 0]
  for (const [i, value] of values.entries()) {
    error += ((found[i] as number) - value) ** 2
    size += value ** 2
  }
  return Math.sqrt(error / size)
}

describe('blocks that are written', () => {
  // Errors of llama.cpp's own blocks on these values, as its library gave them: 0.1042, 0.0518, 0.00653, 0.0784, 0.0397 and 0.0207.
  it.each([
    ['Q4_0', 0.1043],
    ['Q5_0', 0.0519],
    ['Q8_0', 0.00654],
    ['Q4_K', 0.0792],
    ['Q5_K', 0.0401],
    ['Q6_K', 0.0209],
    ['F16', 0.0003],
    ['BF16', 0.003],
    ['F32', 0],
  ] as const)('hold values as %s with a relative error of at most %d', (name, most) => {
    expect(relativeError(bellShaped(65536), name)).toBeLessThanOrEqual(most)
  })

  it.each(Object.keys(encodedTypes) as EncodedTypeName[])('hold zeros, constants and one lonely value as %s', (name) => {
    expect(decoded(new Float32Array(256), name).every((value) => value === 0)).toBe(true)
    const constant = decoded(new Float32Array(256).fill(0.5), name)
    expect(Math.max(...constant.map((value) => Math.abs(value - 0.5)))).toBeLessThan(0.04)
    const lonely = new Float32Array(256)
    lonely[77] = -2
    expect(decoded(lonely, name)[77]).toBeCloseTo(-2, 1)
  })

  it.each(['Q4_0', 'Q8_0', 'Q6_K'] as const)('give the same values again when what was read is written as %s', (name) => {
    const once = decoded(bellShaped(4096, 7), name)
    expect(Math.max(...decoded(once, name).map((value, i) => Math.abs(value - (once[i] as number))))).toBeLessThan(2e-4)
  })
})
