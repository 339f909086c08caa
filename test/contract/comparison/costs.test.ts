import { expect, test } from 'vitest'
import { costText } from '#contract/comparison/costs.ts'

test('a size has the unit that keeps it short', () => {
  expect([13.5e9, 94e6, 698_784].map((bytes) => costText(bytes, { unit: 'bytes' }))).toEqual(['13.5 GB', '94 MB', '699 kB'])
})
