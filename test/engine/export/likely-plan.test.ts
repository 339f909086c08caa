import { describe, expect, it } from 'vitest'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { likelyPlan } from '#engine/export/likely-plan.ts'

const spec = { hidden: 8, blocks: Array.from({ length: 4 }, () => ({ attention: true, width: 10 })) } as unknown as DecoderSpec
const words = (unit: string, attentionRemoved: number, blocksRemoved: number, neuronsRemovedPerBlock: number) =>
  likelyPlan(spec, unit, { attentionRemoved, blocksRemoved, neuronsRemovedPerBlock }).blocks.map(
    ({ attention, mlp }) =>
      `${attention === 'kept' ? 'a' : '-'}${mlp === 'removed' ? '-' : mlp.kept === 'all' ? 'm' : String(mlp.kept.length)}`,
  )

describe('a likely plan', () => {
  it('removes as much of each kind as the method will', () => {
    expect(words('neurons and attention', 2, 0, 4)).toEqual(['a6', 'a6', '-6', '-6'])
    expect(words('block', 1, 1, 0)).toEqual(['am', 'am', 'am', '--'])
    expect(words('submodule', 1, 1, 0)).toEqual(['a-', 'am', 'am', '-m'])
  })

  it('is sliced where channels go', () => {
    expect(likelyPlan(spec, 'width', { attentionRemoved: null, blocksRemoved: null, neuronsRemovedPerBlock: null }).slice).toBeDefined()
  })
})
