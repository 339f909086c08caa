import { expect, test } from 'vitest'
import { judgeExperts } from '#engine/pruning/experts/expert-statistics.ts'

const mixture = (block: number, peaks: number[]) => ({ block, count: peaks.map(() => 4), norms: peaks.map(() => 2), peaks })
const usual = Array.from({ length: 300 }, (_, expert) => 1 + expert / 1000)

test('super experts have outputs above the 99.5 % quantile and above a tenth of the largest, in the first three quarters', () => {
  const found = (peaks: number[], block = 0) => {
    const blocks = [mixture(block, [...usual, ...peaks]), mixture(3, usual)]
    return judgeExperts({ tokens: 100, blocks }, 'reap', 2, 4).blocks[0]?.superExperts
  }
  expect(found([50, 40, 4])).toEqual([300, 301])
  expect(found([50, 40], 3)).toEqual([])
  // Of 605 experts, four are above the quantile.
  expect(found([50, 49, 48, 47, 46])).toEqual([300, 301, 302, 303])
})

test('an expert that no token met scores 0, and not NaN', () => {
  const blocks = [{ block: 0, count: [0, 10], norms: [0, 5], peaks: [0, 1] }]
  expect(judgeExperts({ tokens: 20, blocks }, 'reap', 2, 1).blocks[0]?.scores).toEqual([0, 0.5])
  expect(judgeExperts({ tokens: 20, blocks }, 'reap_sum', 2, 1).blocks[0]?.scores).toEqual([0, 0.25])
  expect(judgeExperts({ tokens: 20, blocks }, 'count', 2, 1).blocks[0]?.scores).toEqual([0, 10])
})
