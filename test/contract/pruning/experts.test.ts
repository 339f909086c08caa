import { expect, test } from 'vitest'
import { balanceOf, expertSentences, type JudgedExperts } from '#contract/pruning/experts.ts'
import type { Plan } from '#contract/pruning/plan.ts'

const judged = (tokens: number[], superExperts: number[] = []): JudgedExperts => ({
  ...{ score: 'reap', tokens: 4000, chosen: 2 },
  blocks: [
    { block: 1, tokens, scores: tokens, superExperts },
    // Nothing is removed here, so the rarest expert decided nothing.
    { block: 2, tokens: [1, 1, 1, 1], scores: [1, 1, 1, 1], superExperts: [] },
  ],
})
const whole = { attention: 'kept', mlp: { kept: 'all' } } as const
const plan: Plan = { blocks: [whole, { attention: 'kept', mlp: { kept: 'all', experts: [0, 2] } }, whole] }

test('names the rarest kept and removed experts, and warns below a hundred tokens', () => {
  expect(expertSentences(judged([2000, 150, 900, 700]), plan)).toEqual([
    'The rarest kept expert (2 of block 1) was judged on 900 tokens, and the rarest removed one (1 of block 1) on 150 tokens.',
    'No super expert was removed.',
  ])
  expect(expertSentences(judged([2000, 1, 99, 700]), plan)[0]).toBe(
    'The rarest kept expert (2 of block 1) was judged on 99 tokens, and the rarest removed one (1 of block 1) on 1 token. Below about 100, a score is mostly noise: use more calibration text.',
  )
})

test('names super experts that went, not those that stay', () => {
  expect(expertSentences(judged([200, 200, 200, 200], [0, 3]), plan)[1]).toBe(
    'A super expert was removed: expert 3 of block 1. Without its largest outputs, a model often breaks.',
  )
})

test('says nothing where no expert went', () => {
  expect(expertSentences(judged([200, 200, 200, 200]), { blocks: [whole, whole, whole] })).toEqual([])
})

test('balance is 1 for equal shares and falls to 0 when one expert does all', () => {
  expect(balanceOf({ tokens: [5, 5, 5, 5] })).toBeCloseTo(1, 12)
  expect(balanceOf({ tokens: [20, 0, 0, 0] })).toBe(0)
  expect(balanceOf({ tokens: [10, 10, 0, 0] })).toBeCloseTo(0.5, 12)
})
