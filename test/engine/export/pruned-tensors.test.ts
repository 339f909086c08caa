import { describe, expect, it } from 'vitest'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { packBlocks } from '#engine/export/pruned-tensors.ts'

/** Blocks as a word: a has attention only, m an MLP only, b both, - nothing. */
function packed(word: string, parallelResidual = false): string[] {
  const left = [...word].map((letter) => ({ attention: 'ab'.includes(letter), width: 'mb'.includes(letter) ? 8 : 0 }))
  return packBlocks({ parallelResidual } as DecoderSpec, left).map(({ attention, mlp }) => `${attention ?? '-'}/${mlp ?? '-'}`)
}

describe('packing', () => {
  it('joins an attention with the next MLP that has none', () => {
    expect(packed('bamb')).toEqual(['0/0', '1/2', '3/3'])
  })

  it('joins them over blocks of which nothing is left', () => {
    expect(packed('a--m')).toEqual(['0/3'])
  })

  it('keeps the running order: an MLP never moves before an attention, nor behind another MLP', () => {
    expect(packed('mamm')).toEqual(['-/0', '1/2', '-/3'])
    expect(packed('aab')).toEqual(['0/-', '1/-', '2/2'])
  })

  it('joins nothing where both halves of a block read the same stream', () => {
    expect(packed('am-b', true)).toEqual(['0/-', '-/1', '3/3'])
  })
})
