import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'

test('an index outside an array is an error with both numbers, not a zero', () => {
  expect(at(Float32Array.of(1, 0), 1)).toBe(0)
  expect(() => at(Float32Array.of(1, 0), 2)).toThrow(new RangeError('Index 2 is outside an array of 2 entries.'))
  expect(() => at([3], -1)).toThrow('Index -1 is outside an array of 1 entries.')
  expect(() => at([], Number.NaN)).toThrow(RangeError)
})
