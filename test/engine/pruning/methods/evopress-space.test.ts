import { describe, expect, test } from 'vitest'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { describeState, drawDistinct, SearchSpace } from '#engine/pruning/methods/evopress.ts'
import { PythonRandom } from '#engine/random/python-random.ts'

const specOf = (blocks: number) =>
  ({ blocks: Array.from({ length: blocks }, () => ({ attention: true, width: 4 })) }) as unknown as DecoderSpec

describe.each([2, 3, 4, 5, 6, 7, 8])('%i blocks', (blocks) => {
  test.each(['block', 'submodule'] as const)('every count of each %s has as many states and neighbours as can be drawn', (unit) => {
    for (let count = 1; count <= blocks; count++) {
      const space = new SearchSpace(specOf(blocks), count, unit)
      const random = new PythonRandom(count)
      const states = drawDistinct(Math.min(64, space.states), [], () => space.drawState(random))
      expect(new Set(states.map(describeState)).size).toBe(Math.min(64, space.states))
      for (const state of states) expect(state.reduce((a, b) => a + b)).toBe(2 * count)
      const [parent] = states
      if (!parent || space.neighbours(3) === 0) continue
      const wanted = Math.min(32, space.neighbours(3))
      const children = drawDistinct(wanted, [parent], () => space.mutate(parent, random, 3))
      expect(children.map(describeState)).not.toContain(describeState(parent))
      for (const child of children) expect(child.reduce((a, b) => a + b)).toBe(2 * count)
    }
  })
})

test('neighbours are all states within the given number of exchanges', () => {
  expect(new SearchSpace(specOf(6), 1, 'submodule').neighbours(3)).toBe(35)
  expect(new SearchSpace(specOf(4), 2, 'submodule').neighbours(3), 'all but the opposite, four exchanges away').toBe(34)
  expect(new SearchSpace(specOf(6), 3, 'block').neighbours(3)).toBe(19)
  expect(new SearchSpace(specOf(3), 3, 'block').neighbours(3)).toBe(0)
})
