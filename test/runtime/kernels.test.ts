import { arch, platform } from 'node:process'
import { describe, expect, test } from 'vitest'
import { chosenKernels, kernelSets, runnableKernels } from '../../src-main/runtime/kernels.mjs'

const zen3 = ['avx2', 'fma', 'f16c']
const skylake = [...zen3, 'avx512f', 'avx512bw', 'avx512dq', 'avx512vl']
const zen5 = [...skylake, 'avx512_bf16']
const sapphireRapids = [...zen5, 'amx_tile', 'amx_bf16', 'amx_int8']

describe.skipIf(platform !== 'linux' || arch !== 'x64')('kernels of Linux on x64', () => {
  test.each([
    ['a processor of before 2013', [], ['plain']],
    ['Zen 3', zen3, ['plain', 'avx2']],
    ['Skylake', skylake, ['plain', 'avx2', 'avx512']],
    ['Zen 5', zen5, ['plain', 'avx2', 'avx512', 'bf16']],
    ['Sapphire Rapids', sapphireRapids, Object.keys(kernelSets)],
    // A set includes those before it.
    ['a processor whose system hides AVX2', ['avx512f', 'avx512_bf16'], ['plain']],
  ])('%s runs its own and those before them', (_, features, expected) => {
    expect(runnableKernels(features)).toEqual(expected)
  })

  test('a chosen set is compiled with its instructions only, and takes the variant of ggml that has no others', () => {
    expect(chosenKernels({}, zen5)).toBeUndefined()
    expect(chosenKernels({ ESPALIER_TEST_CPU: 'plain' }, zen5)).toEqual({
      name: 'plain',
      oneDnn: 'SSE41',
      blas: 'Nehalem',
      flags: ['-march=x86-64'],
      ggml: ['x64'],
    })
    const { flags, ggml, oneDnn } = chosenKernels({ ESPALIER_TEST_CPU: 'avx512' }, zen5) ?? {}
    expect(flags).toEqual(expect.arrayContaining(['-mavx2', '-mavx512f']))
    expect(flags).not.toContain('-mavx512bf16')
    expect([ggml, oneDnn]).toEqual([['skylakex', 'haswell', 'x64'], 'AVX512_CORE'])
  })

  test('a set that the processor cannot run is refused with those that it can', () => {
    expect(() => chosenKernels({ ESPALIER_TEST_CPU: 'amx' }, zen5)).toThrow(
      'ESPALIER_TEST_CPU is "amx"; it must be one of plain, avx2, avx512, bf16, which this processor can run.',
    )
    expect(() => chosenKernels({ ESPALIER_TEST_CPU: 'fast' }, zen3)).toThrow('it must be one of plain, avx2,')
  })
})
