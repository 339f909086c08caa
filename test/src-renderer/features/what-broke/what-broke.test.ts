import { expect, test } from 'vitest'
import { HeatLayout, heatOf, shownText } from '../../../../src-renderer/features/what-broke/heat.ts'

test('any line of a long text is found without those before it, and a place leads back to its line', () => {
  const layout = new HeatLayout([512, 2048, 100], 14)
  expect(layout.total).toBe(37 + 147 + 8)
  for (const index of [0, 36, 37, 100, 183, 184, 191]) {
    const { page, from, to } = layout.line(index)
    expect(layout.lineOf({ page, at: from })).toBe(index)
    expect(layout.lineOf({ page, at: to - 1 })).toBe(index)
  }
  expect(layout.line(36)).toEqual({ page: 0, from: 504, to: 512 })
  expect(layout.line(37)).toEqual({ page: 1, from: 0, to: 14 })
})

test('steps go over the ends of pages, and stop at the ends of the text', () => {
  const layout = new HeatLayout([10, 20], 4)
  expect(layout.moved({ page: 0, at: 9 }, 1)).toEqual({ page: 1, at: 0 })
  expect(layout.moved({ page: 1, at: 2 }, -4)).toEqual({ page: 0, at: 8 })
  expect(layout.moved({ page: 0, at: 2 }, -4)).toEqual({ page: 0, at: 0 })
  expect(layout.moved({ page: 1, at: 18 }, 400)).toEqual({ page: 1, at: 19 })
})

test('what is small is neither hidden nor called nothing', () => {
  expect(heatOf(0, 2)).toBe(0)
  expect(heatOf(0.02, 2)).toBeGreaterThan(0)
  expect(heatOf(50, 2)).toBe(1)
  expect([shownText(' '), shownText('\n'), shownText(' a'), shownText('')]).toEqual(['␣', '↵', ' a', '·'])
})
