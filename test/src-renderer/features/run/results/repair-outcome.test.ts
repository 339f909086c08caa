import { expect, test } from 'vitest'
import type { RepairedProjection } from '#contract/pruning/repair.ts'
import { repairOutcome } from '../../../../../src-renderer/features/run/results/repair-outcome.ts'

test('a repair says what it kept, and apart from that the experts that too few tokens chose', () => {
  const one = (after: number, experts?: RepairedProjection['experts']): RepairedProjection => ({
    block: 0,
    projection: 'down',
    ridge: 0.1,
    before: 0.2,
    after,
    ...(experts ? { experts } : {}),
  })
  expect(repairOutcome([one(0.1), one(0.1)])).toBe('Projections: 2 replaced.')
  expect(repairOutcome([one(0.1), one(0.2)])).toBe('Projections: 1 replaced; 1 kept, as the error on held-out windows did not fall.')
  expect(repairOutcome([one(0.1, { replaced: 3, fitted: 4, all: 6 }), one(0.2, { replaced: 0, fitted: 0, all: 2 })])).toBe(
    'Projections: 3 replaced; 1 kept, as the error on held-out windows did not fall; 4 kept, as too few tokens chose the expert.',
  )
})
