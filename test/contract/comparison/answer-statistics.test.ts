import { expect, test } from 'vitest'
import { distinctTrigrams, endsInLoop, repeatedEnding, repetitionRate } from '#contract/comparison/answer-statistics.ts'

const words = (...stretches: readonly (readonly number[])[]) => stretches.flat()
const times = (count: number, stretch: readonly number[]) => Array.from({ length: count }, () => stretch).flat()
const text = Array.from({ length: 40 }, (_, i) => 100 + ((i * 7) % 41))

test.each([
  ['a text without repeats', text, false],
  ['one token sixteen times', words(text, times(16, [5])), true],
  ['one token fifteen times', words(text, times(15, [5])), false],
  ['a sentence three times', words(text, times(3, [1, 2, 3, 4, 5, 6])), true],
  ['a sentence three times, cut in its fourth turn', words(text, times(3, [1, 2, 3, 4, 5, 6]), [1, 2]), true],
  ['a sentence twice', words(text, times(2, [1, 2, 3, 4, 5, 6, 7, 8, 9])), false],
  ['a loop that it came out of', words(times(5, [1, 2, 3, 4, 5, 6]), text), false],
  ['an empty answer', [], false],
])('%s ends in a loop or not', (_, ids, expected) => {
  expect(endsInLoop(ids)).toBe(expected)
})

test('the share of four-token sequences that occurred before', () => {
  expect(repetitionRate(text)).toBe(0)
  expect(repetitionRate(times(4, [1, 2, 3, 4]))).toBeCloseTo(1 - 4 / 13, 12)
  expect(repetitionRate([1, 2])).toBe(0)
})

test('distinct trigrams and the longest ending that occurred before', () => {
  expect([text, times(4, [1, 2, 3]), [7, 7]].map(distinctTrigrams)).toEqual([1, 3 / 10, 1])
  // Twelve tokens in a loop of three: each of the last nine also occurs three tokens earlier.
  expect([text, times(4, [1, 2, 3]), [1, 2, 9, 1, 2], [7], []].map(repeatedEnding)).toEqual([0, 9, 2, 0, 0])
})
