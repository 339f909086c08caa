import { expect, test } from 'vitest'
import { addAmounts, formatAmount, limitText, parsePercents, parseSeeds } from '../../../src-renderer/features/new-experiment/amounts.ts'

test('percentages are read with point, decimal comma and sign, several at once, and nothing else', () => {
  expect(['37.5', '37,5 %', ' 0 ', '100'].map(parsePercents)).toEqual([[0.375], [0.375], [0], [1]])
  expect(parsePercents('25, 37,5; 50%')).toEqual([0.25, 0.375, 0.5])
  expect(['', '101', '-1', 'half', '25 half'].map(parsePercents)).toEqual([null, null, null, null, null])
})

test('33.3 and 33.333 are two sparsities with names of their own, and none is there twice', () => {
  const amounts = addAmounts([{ sparsity: 0.5 }], [0.33333, 0.333, 0.333])
  expect(amounts.map(formatAmount)).toEqual(['33.3 %', '33.333 %', '50 %'])
  expect(addAmounts(amounts, [0.5])).toEqual(amounts)
})

test('a limit is said in percent and can be typed as it is said', () => {
  expect(limitText({ feasibleRange: { minimum: 0, maximum: 0.86666 }, problem: 'no' })).toBe('choose 86.6 % or less')
  expect(limitText({ feasibleRange: null, problem: 'Cannot be recovered.' })).toBe('Cannot be recovered.')
})

test('seeds are read as numbers and ranges, each once', () => {
  expect(parseSeeds('3, 0-2 1')).toEqual([0, 1, 2, 3])
  for (const text of ['', 'a', '5-2', '0-200', '1.5']) expect(parseSeeds(text), text).toBeNull()
})
