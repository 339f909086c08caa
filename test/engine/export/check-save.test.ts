import { describe, expect, it } from 'vitest'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { likelyPlans } from '#engine/export/check-save.ts'

const spec = { hidden: 8, blocks: Array.from({ length: 4 }, () => ({ attention: true, width: 10 })) } as unknown as DecoderSpec
const words = (unit: string, attentionRemoved: number, blocksRemoved: number, neuronsRemovedPerBlock: number) =>
  likelyPlans(spec, unit, { attentionRemoved, blocksRemoved, neuronsRemovedPerBlock }).map(({ blocks }) =>
    blocks.map(
      ({ attention, mlp }) =>
        `${attention === 'kept' ? 'a' : '-'}${mlp === 'removed' ? '-' : mlp.kept === 'all' ? 'm' : String(mlp.kept.length)}`,
    ),
  )

describe('likely plans', () => {
  it('removes as much of each kind as the method will, in the places between which formats differ', () => {
    expect(words('neurons and attention', 2, 0, 4)).toEqual([
      ['a6', 'a6', '-6', '-6'],
      ['-6', '-6', 'a6', 'a6'],
    ])
    expect(words('neurons and attention', 0, 0, 4)).toEqual([['a6', 'a6', 'a6', 'a6']])
    expect(words('block', 1, 1, 0)).toEqual([['am', 'am', 'am', '--']])
    expect(words('submodule', 1, 1, 0)).toEqual([
      ['a-', 'am', 'am', '-m'],
      ['-m', 'am', 'am', 'a-'],
      ['am', 'am', 'am', '--'],
    ])
  })

  it('is sliced where channels go', () => {
    const none = { attentionRemoved: null, blocksRemoved: null, neuronsRemovedPerBlock: null }
    expect(likelyPlans(spec, 'width', none).map(({ slice }) => slice !== undefined)).toEqual([true])
  })
})
