import { expect, test } from 'vitest'
import { visibleWindow } from '../../../src-renderer/lib/visible-window.ts'

test('what is in view is always drawn, and never more than some rows beyond', () => {
  for (let scrollTop = 0; scrollTop < 4000; scrollTop += 7) {
    const { from, to } = visibleWindow(scrollTop, 340, 34, 10_000, 5)
    expect(from).toBeLessThanOrEqual(Math.floor(scrollTop / 34))
    expect(to).toBeGreaterThanOrEqual(Math.ceil((scrollTop + 340) / 34))
    expect(to - from).toBeLessThan(30)
  }
})

test('the window stays the same while a row is scrolled through', () => {
  expect(visibleWindow(8 * 34 + 1, 340, 34, 100, 5)).toEqual(visibleWindow(8 * 34 + 30, 340, 34, 100, 5))
})

test('the window ends where the rows end', () => {
  expect(visibleWindow(1e9, 340, 34, 100, 5)).toEqual({ from: 99, to: 100 })
  expect(visibleWindow(0, 340, 34, 0, 5)).toEqual({ from: 0, to: 0 })
})
