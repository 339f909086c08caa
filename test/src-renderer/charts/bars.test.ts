import { expect, test } from 'vitest'
import { type BarGroup, barAxis, errorEnds, groupTops, shorten } from '../../../src-renderer/charts/bars.ts'

const group = (...values: number[]): BarGroup => ({
  title: 'text',
  bars: values.map((value) => ({ id: `${value}`, label: `${value}`, color: 'red', value, error: null })),
})

test('bars start at zero; a logarithmic axis spans the values instead, and values below zero have none', () => {
  const even = barAxis([group(20, 80)], [0, 100], String)
  expect([even.start, even.scale(0), even.isLog]).toEqual([0, 0, false])
  const log = barAxis([group(20, 80)], [0, 100], String, true)
  expect(log.isLog).toBe(true)
  expect(log.start).toBeGreaterThan(10)
  const wide = { ...group(20, 80), bars: group(20, 80).bars.map((bar) => ({ ...bar, error: 90 })) }
  expect(barAxis([wide], [0, 100], String, true).isLog).toBe(true)
  expect(barAxis([group(-1, 80)], [0, 100], String, true).isLog).toBe(false)
  // An error of a factor, or larger than its value, stays on a logarithmic axis.
  const [bar] = group(20).bars as [BarGroup['bars'][number]]
  expect(errorEnds({ ...bar, error: 2, factor: true }, true)).toEqual([10, 40])
  expect(errorEnds({ ...bar, error: 20 }, true)).toEqual([10, 40])
  expect(errorEnds({ ...bar, error: 20 }, false)).toEqual([0, 40])
})

test('groups leave room for their titles, and long names keep their ends', () => {
  expect(groupTops([group(1, 2), group(3)], 10, 16)).toEqual([22, 72, 96])
  expect(shorten('BlockPruner, whole blocks 37.5 %, seed 12', 14)).toBe('BlockPr…eed 12')
  expect(shorten('2SSP 25 %', 14)).toBe('2SSP 25 %')
})
