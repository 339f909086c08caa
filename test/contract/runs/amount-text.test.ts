import { expect, test } from 'vitest'
import { amountText, fileSizeText, keptRowsText, parseBudget, parseKeptRows } from '#contract/runs/amount-text.ts'

test.each([
  ['6GB', { bytes: 6e9 }],
  ['250 mb', { bytes: 250e6 }],
  ['1.5GiB', { bytes: 1.5 * 2 ** 30 }],
  ['64 KiB', { bytes: 65_536 }],
  ['94.3MB', { bytes: 94_300_000 }],
  ['4096B', { bytes: 4096 }],
  ['mixed:2MB', { bytes: 2e6, type: 'MIXED:2000000' }],
  ['30 tok/s', { tokensPerSecond: 30 }],
  ['200ms@2048', { milliseconds: 200, prompt: 2048 }],
])('%s is a budget', (text, budget) => {
  expect(parseBudget(text)).toEqual(budget)
})

test.each(['6', 'GB', '0GB', '6 G', '-1GB', '6TBB', '1e3MB', '0tok/s', '30 tokens', '200ms', 'MIXED:', 'MIXED:30tok/s', ''])(
  '"%s" is no budget',
  (text) => {
    expect(parseBudget(text)).toBeUndefined()
  },
)

test('a number or a share of tokens reads as it was written', () => {
  expect(['32000', '32,000', '50%', '12.5 %'].map(parseKeptRows)).toEqual([
    { rows: 32_000 },
    { rows: 32_000 },
    { share: 0.5 },
    { share: 0.125 },
  ])
  expect(['0', '-1', '0%', '101%', '1.5', '32k', '3,2000', ''].map(parseKeptRows)).toEqual(Array(8).fill(undefined))
  expect([{ rows: 32_000 }, { rows: 1 }, { share: 0.07 }].map(keptRowsText)).toEqual(['32,000 tokens', '1 token', '7 % of tokens'])
})

test('an amount reads as what was asked for', () => {
  expect(fileSizeText(94_312_345)).toBe('94.31 MB')
  expect([fileSizeText(6e9), fileSizeText(269_060_736), fileSizeText(698_784)]).toEqual(['6 GB', '269.1 MB', '698.8 kB'])
  expect(amountText({ bytes: 6e9, format: 'gguf' })).toBe('6 GB')
  expect(amountText({ bytes: 2e6, format: 'gguf', type: 'MIXED:2000000' })).toBe('2 MB of mixed types')
  expect(amountText({ sparsity: 0.33333 })).toBe('33.333 %')
  expect(amountText({ blocks: 3 })).toBe('3 blocks')
})
