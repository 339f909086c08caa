import { expect, test } from 'vitest'
import type { DecoderSpec, RouterKind } from '#engine/architectures/spec.ts'
import { expertsToRemove, lowestRankedExperts, mixturesOf, removableExperts } from '#engine/pruning/experts/expert-plan.ts'

const router = { chosen: 2, scores: 'softmax', renormalised: true, countKeys: ['num_experts'], widthKey: 'width' } as const
/** Two mixtures of eight experts after a dense block; the last one has a constant. */
const spec = (own: Partial<RouterKind> = {}, constants?: number[]) =>
  ({
    family: 'test',
    router: { ...router, ...own },
    blocks: [
      { attention: true, width: 8 },
      { attention: true, width: 4, experts: 8 },
      { attention: true, width: 4, experts: 8, constants },
    ],
  }) as unknown as DecoderSpec

/** The first expert of the later block is the worst of all, then scores rise by number. */
const rank = (block: number, expert: number) => ({ score: expert + (block === 1 ? 0.5 : 0), last: false })
const gone = (map: ReadonlyMap<number, readonly number[]>) => Object.fromEntries(map)

test('every mixture loses the same number, with halves rounded to even', () => {
  expect(expertsToRemove(spec(), 0.25, 'uniform')).toEqual([2, 2])
  expect(expertsToRemove(spec(), 0.0625, 'uniform')).toEqual([0, 0])
  expect(gone(lowestRankedExperts(spec(), [2, 2], 'uniform', rank))).toEqual({ 1: [0, 1], 2: [0, 1] })
})

test('a free budget passes over mixtures that are down to what their router picks', () => {
  const last = (block: number, expert: number) => ({ score: block === 1 ? expert : 100 + expert, last: false })
  expect(gone(lowestRankedExperts(spec(), [8], 'free', last))).toEqual({ 1: [0, 1, 2, 3, 4, 5], 2: [0, 1] })
  expect(gone(lowestRankedExperts(spec(), [3], 'free', rank))).toEqual({ 1: [0], 2: [0, 1] })
})

test('protected experts are removed only when the others are not enough', () => {
  const protectedFirst = (block: number, expert: number) => ({ ...rank(block, expert), last: expert === 0 })
  expect(gone(lowestRankedExperts(spec(), [2, 6], 'uniform', protectedFirst))).toEqual({ 1: [1, 2], 2: [1, 2, 3, 4, 5, 6] })
  const most = (block: number, expert: number) => ({ ...rank(block, expert), last: expert < 4 })
  expect(gone(lowestRankedExperts(spec(), [6, 0], 'uniform', most))).toEqual({ 1: [0, 1, 4, 5, 6, 7] })
})

test('with groups, every group loses the same number, and keeps two', () => {
  const grouped = spec({ groups: { count: 2, open: 1 } })
  expect(removableExperts(grouped)).toEqual([4, 4])
  expect(expertsToRemove(grouped, 0.375, 'uniform')).toEqual([2, 2])
  expect(gone(lowestRankedExperts(grouped, [2, 2], 'uniform', rank))).toEqual({ 1: [0, 4], 2: [0, 4] })
  expect(gone(lowestRankedExperts(grouped, [6], 'free', rank))).toEqual({ 1: [0, 4], 2: [0, 1, 4, 5] })
  expect(() => expertsToRemove(grouped, 0.75, 'uniform')).toThrow(
    'at most 4 can be removed, because the router picks 2 from 2 groups. Choose a share of 0.5 or less.',
  )
})

test('constants are no candidates and do not count as experts', () => {
  expect(mixturesOf(spec({}, [0, 3]))[1]).toEqual({ block: 2, experts: [1, 2, 4, 5, 6, 7] })
  expect(removableExperts(spec({}, [0, 3]))).toEqual([6, 4])
})

test('more than a router can lose is refused in one sentence, and so is a model without experts', () => {
  expect(() => expertsToRemove(spec(), 0.9, 'uniform')).toThrow(
    'This removes 7 of the 8 experts of a mixture, but at most 6 can be removed, because the router picks 2. Choose a share of 0.75 or less.',
  )
  expect(() => expertsToRemove(spec(), 0.9, 'free')).toThrow('This removes 14 of all 16 experts')
  expect(() => expertsToRemove({ ...spec(), router: undefined } as never, 0.25, 'free')).toThrow('no mixtures of experts')
})
