import { describe, expect, it } from 'vitest'
import { paddedWidth } from '#engine/export/gguf/gguf-file.ts'
import { mixes } from '#engine/export/gguf/mix.ts'

describe('the width of an MLP in a GGUF file', () => {
  it.each(['F16', 'BF16', 'Q8_0', 'Q4_0'] as const)('is a multiple of 32 in %s', (type) => {
    expect(paddedWidth(648, 576, true, mixes[type])).toBe(672)
    expect(paddedWidth(672, 576, true, mixes[type])).toBe(672)
  })

  it('is not padded in F32, so that it can be pruned further', () => {
    expect(paddedWidth(648, 576, true, mixes.F32)).toBe(648)
  })

  it('is not padded where rows of the stream cannot be quantised', () => {
    expect(paddedWidth(37, 40, true, mixes.F16)).toBe(37)
  })

  it('is what takes the fewest bytes in a mix of blocks of 256', () => {
    expect(paddedWidth(648, 576, true, mixes.Q4_K_M)).toBe(672)
    expect(paddedWidth(2040, 1024, true, mixes.Q4_K_M)).toBe(2048)
  })
})
