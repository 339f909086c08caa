import { expect, test } from 'vitest'
import { progressAmounts } from '#contract/runs/time/progress.ts'

test('bytes have units that can be read, other amounts are counts', () => {
  expect(progressAmounts({ done: 633, total: 5_717_897, unit: 'bytes' })).toEqual(['0.633 kB', '5.718 MB'])
  expect(progressAmounts({ done: 11.6, total: 30, unit: 'submodules' })).toEqual(['12', '30'])
})
