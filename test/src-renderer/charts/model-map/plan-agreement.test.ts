import { describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { planAgreement } from '../../../../src-renderer/charts/model-map/plan-agreement.ts'

const planOf = (...blocks: Plan['blocks']): Plan => ({ blocks })
const kept = { attention: 'kept', mlp: { kept: 'all' } } as const
const narrow = { attention: 'kept', mlp: { kept: [0, 1, 2, 3] } } satisfies Plan['blocks'][number]
const gone = { attention: 'removed', mlp: 'removed' } as const
const dense = [{ intermediate: 8 }, { intermediate: 8 }]
const first = (left: Plan, right: Plan, sizes: Parameters<typeof planAgreement>[2] = dense) => planAgreement(left, right, sizes).blocks[0]

describe('agreement of two plans', () => {
  test('is whole for equal plans and counts kept neurons by their overlap', () => {
    expect(planAgreement(planOf(kept, gone), planOf(kept, gone), dense).share).toBe(1)
    const other = { attention: 'kept', mlp: { kept: [2, 3, 4, 5] } } satisfies Plan['blocks'][number]
    expect(first(planOf(narrow), planOf(other))).toBeCloseTo((1 + 2 / 6) / 2)
  })

  test('counts a few kept neurons as a share of all', () => {
    expect(first(planOf(kept), planOf(narrow))).toBeCloseTo((1 + 4 / 8) / 2)
    expect(first(planOf(kept), planOf(gone))).toBe(0)
  })

  test('counts experts by their state, of those that either plan leaves', () => {
    const mixture = [{ intermediate: 8, experts: 6 }]
    const keeping = (experts: number[], rest: object = {}) => planOf({ attention: 'kept', mlp: { kept: 'all', experts, ...rest } })
    expect(first(keeping([0, 1, 2]), keeping([0, 1, 2]), mixture)).toBe(1)
    // 0 and 1 are kept in both, 2 and 3 in one each.
    expect(first(keeping([0, 1, 2]), keeping([0, 1, 3]), mixture)).toBeCloseTo((1 + 2 / 4) / 2)
    expect(first(planOf(kept), keeping([0, 1, 2]), mixture)).toBeCloseTo((1 + 3 / 6) / 2)
    // 5 became a constant in one and is removed in the other.
    expect(first(keeping([0, 1], { constants: [5] }), keeping([0, 1]), mixture)).toBeCloseTo((1 + 2 / 3) / 2)
    const cut = {
      keptByExpert: [
        [0, 1, 2, 3],
        [0, 1, 2, 3],
      ],
    }
    expect(first(keeping([0, 1], cut), keeping([0, 1]), mixture)).toBeCloseTo((1 + 4 / 8) / 2)
    expect(first(planOf(gone), keeping([0, 1]), mixture)).toBe(0)
  })
})
