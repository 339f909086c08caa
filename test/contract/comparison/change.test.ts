import { expect, test } from 'vitest'
import { changeText } from '#contract/comparison/change.ts'

test('a change is in percent with a real minus, and a factor from ten times on', () => {
  expect(changeText({ absolute: 985, relative: 65.7 })).toBe('×67')
  expect(changeText({ absolute: 72.9, relative: 7.29 })).toBe('+729 %')
  expect(changeText({ absolute: -0.5, relative: -0.033 })).toBe('−3.3 %')
  expect(changeText({ absolute: 0, relative: 0 })).toBe('±0')
  expect(changeText({ absolute: -0.002, relative: -0.0002 })).toBe('±0.0 %')
})
