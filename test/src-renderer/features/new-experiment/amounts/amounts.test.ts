import { expect, test } from 'vitest'
import { amountText } from '#contract/runs/amount-text.ts'
import {
  addAmounts,
  blockSparsities,
  exampleSize,
  fileSizesText,
  limitText,
  missedSparsities,
  parsePercents,
  parseSeeds,
  parseShares,
  sharedSparsities,
  sizeText,
} from '../../../../../src-renderer/features/new-experiment/amounts/amounts.ts'

test('percentages are read with point, decimal comma and sign, several at once, and nothing else', () => {
  expect(['37.5', '37,5 %', ' 0 ', '100'].map(parsePercents)).toEqual([[0.375], [0.375], [0], [1]])
  expect(parsePercents('25, 37,5; 50%')).toEqual([0.25, 0.375, 0.5])
  expect(['', '101', '-1', 'half', '25 half'].map(parsePercents)).toEqual([null, null, null, null, null])
})

test('33.3 and 33.333 are two sparsities with names of their own, and none is there twice', () => {
  const amounts = addAmounts(
    [{ bytes: 6e9, format: 'gguf' }, { sparsity: 0.5 }],
    [0.33333, 0.333, 0.333].map((sparsity) => ({ sparsity })),
  )
  expect(amounts.map(amountText)).toEqual(['33.3 %', '33.333 %', '50 %', '6 GB'])
  expect(addAmounts(amounts, [{ sparsity: 0.5 }])).toEqual(amounts)
})

test('a limit is shown in percent and can be typed as shown', () => {
  const share = { amount: { sparsity: 0.9 }, fileRange: null }
  expect(limitText({ ...share, feasibleRange: { minimum: 0, maximum: 0.86666 }, problem: 'no' })).toBe('choose 86.6 % or less')
  expect(limitText({ ...share, feasibleRange: null, problem: 'Cannot be recovered.' })).toBe('Cannot be recovered.')
})

test('file sizes are those that every combination reaches', () => {
  const ranges = [
    [2e6, 8e6],
    [3e6, 7.5e6],
  ].map(([least = 0, most = 0]) => ({ fileRange: { least, most, predicted: null } }))
  expect(fileSizesText([...ranges, { fileRange: null }])).toBe('3 MB to 7.5 MB')
  expect(fileSizesText([{ fileRange: null }])).toBeNull()
  expect([[{ fileRange: null }], [{ fileRange: { least: 65_482_000, most: 270_812_000, predicted: null } }]].map(exampleSize)).toEqual([
    '6 GB',
    '170 MB',
  ])
  expect(fileSizesText([{ fileRange: { least: 1_276_001, most: 5_622_900, predicted: null } }])).toBe('1.28 MB to 5.62 MB')
  expect(fileSizesText([{ fileRange: { least: 5_621_001, most: 5_622_900, predicted: null } }])).toBe('about 5.621 MB')
  expect(fileSizesText([{ fileRange: { least: 65_482_000, most: 270_812_000, predicted: null } }])).toBe('66 MB to 270 MB')
  const budget = { amount: { bytes: 1e6, format: 'gguf' as const }, feasibleRange: null, problem: 'no' }
  expect(limitText({ ...budget, ...(ranges[0] as (typeof ranges)[0]) })).toBe('choose 2 MB to 8 MB')
})

test('seeds are read as numbers and ranges, each once', () => {
  expect(parseSeeds('3, 0-2 1')).toEqual([0, 1, 2, 3])
  for (const text of ['', 'a', '5-2', '0-200', '1.5']) expect(parseSeeds(text), text).toBeNull()
})

test('a share of experts is distinguished from a sparsity by its words, and is written the same way', () => {
  expect(parseShares('25 37,5 %')).toEqual([{ sparsity: 0.25 }, { sparsity: 0.375 }])
  for (const text of ['25 % of experts', '25% experts', ' 25 of Experts ']) expect(parseShares(text)).toEqual([{ experts: 0.25 }])
  expect(['experts', '0 % of experts', '120 % of experts'].map(parseShares)).toEqual([null, null, null])
  const amounts = addAmounts([{ experts: 0.25 }], [{ sparsity: 0.25 }, { blocks: 2 }, { experts: 0.25 }])
  expect(amounts.map(amountText)).toEqual(['25 %', '25 % of experts', '2 blocks'])
})

test('an amount shows the size of its GGUF file: in the usual type, or in the only one', () => {
  const file = (type: string, bytes: number) => ({ format: 'gguf', type, bytes, keyValueBytes: 1, notes: [], problem: null })
  const one = (types: [string, number][]) => [
    { method: 'dense', amount: { sparsity: 0 }, formats: [file('Q4_K_M', 9e6)] },
    { method: '2ssp', amount: { sparsity: 0.25 }, formats: types.map(([type, bytes]) => file(type, bytes)) },
  ]
  const both: [string, number][] = [
    ['F16', 8e6],
    ['Q4_K_M', 3e6],
  ]
  expect(sizeText({ sparsity: 0.25 }, one(both))).toBe('3 MB in Q4_K_M')
  expect(sizeText({ sparsity: 0.25 }, one([['Q8_0', 5e6]]))).toBe('5 MB in Q8_0')
  // Of gates, only bounds are known before the search; of several methods, all sizes count.
  const bounded = { ...file('Q4_K_M', 253e6), least: { bytes: 236e6, keyValueBytes: 1 } }
  const gates = { method: 'gates', amount: { sparsity: 0.25 }, formats: [bounded] }
  const exact = { method: '2ssp', amount: { sparsity: 0.25 }, formats: [file('Q4_K_M', 247e6)] }
  expect(sizeText({ sparsity: 0.25 }, [gates])).toBe('236 MB to 253 MB in Q4_K_M')
  expect(sizeText({ sparsity: 0.25 }, [exact, gates])).toBe('236 MB to 253 MB in Q4_K_M')
  expect(sizeText({ sparsity: 0.5 }, one(both))).toBe('')
  expect(sizeText({ bytes: 3e6, format: 'gguf' }, one(both))).toBe('')
})

test('sparsities that all methods reach are offered where a method of whole blocks misses one', () => {
  const of = (method: string, sparsity: number, reached: number | null, feasible = true) => ({
    method,
    amount: { sparsity },
    reached,
    feasible,
  })
  const asked = [of('dense', 0, 0), of('2ssp', 0.25, 0.2501), of('shortgpt', 0.25, 8 / 30), of('2ssp', 0.5, 0.5), of('shortgpt', 0.5, 0.5)]
  expect(missedSparsities(asked)).toEqual([0.25, 0.5])
  expect(missedSparsities(asked.filter(({ amount }) => amount.sparsity !== 0.25))).toEqual([])
  // Above a whole number of blocks one more is removed, so the shares are rounded down.
  const near = blockSparsities([0.25, 0.5], 30)
  expect(near).toEqual([0.2333, 0.2666, 0.5])
  expect(near.map((sparsity) => Math.ceil(sparsity * 30 - 1e-9))).toEqual([7, 8, 15])
  const tried = [
    of('2ssp', 0.2333, 0.2334),
    of('shortgpt', 0.2333, 7 / 30),
    of('2ssp', 0.2666, null),
    of('shortgpt', 0.2666, 8 / 30),
    of('2ssp', 0.5, 0.5),
    of('shortgpt', 0.5, 0.5),
  ]
  expect(sharedSparsities([0.25, 0.5], tried)).toEqual([0.2666, 0.5])
  expect(sharedSparsities([0.25, 0.5], [...tried, of('slicegpt', 0.2666, 0.2666, false)])).toEqual([0.2333, 0.5])
})
