import { expect, test } from 'vitest'
import { amountText, fileSizeText, parseFileSize } from '#contract/runs/amount-text.ts'

test.each([
  ['6GB', 6e9],
  ['250 mb', 250e6],
  ['1.5GiB', 1.5 * 2 ** 30],
  ['64 KiB', 65_536],
  ['94.3MB', 94_300_000],
  ['4096B', 4096],
])('%s is %i bytes', (text, bytes) => {
  expect(parseFileSize(text)).toBe(bytes)
})

test.each(['6', 'GB', '0GB', '6 G', '-1GB', '6TBB', '1e3MB', ''])('"%s" is no size', (text) => {
  expect(parseFileSize(text)).toBeUndefined()
})

test('an amount reads as what was asked for', () => {
  expect(fileSizeText(94_312_345)).toBe('94.31 MB')
  expect([fileSizeText(6e9), fileSizeText(269_060_736), fileSizeText(698_784)]).toEqual(['6 GB', '269.1 MB', '698.8 kB'])
  expect(amountText({ bytes: 6e9, format: 'gguf' })).toBe('6 GB')
  expect(amountText({ sparsity: 0.33333 })).toBe('33.333 %')
  expect(amountText({ blocks: 3 })).toBe('3 blocks')
})
