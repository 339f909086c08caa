import { expect, test } from 'vitest'
import { changeText, differenceText } from '#contract/comparison/change.ts'

test('a change is in percent with a real minus, and a factor from ten times on', () => {
  expect(changeText({ absolute: 985, relative: 65.7 })).toBe('×67')
  expect(changeText({ absolute: 72.9, relative: 7.29 })).toBe('+729 %')
  expect(changeText({ absolute: -0.5, relative: -0.033 })).toBe('−3.3 %')
  expect(changeText({ absolute: 0, relative: 0 })).toBe('±0')
  expect(changeText({ absolute: -0.002, relative: -0.0002 })).toBe('±0.0 %')
})

test('a difference keeps its size however small or large a factor is, and names points of shares', () => {
  const difference = { value: 1, low: 1, high: 1, clear: true, probability: 0.01, count: 8, unit: 'window' as const }
  const factor = { ...difference, factor: true }
  expect(differenceText({ ...factor, value: 1.2e-7, low: 1e-7, high: 0.00123 })).toBe('×1.20e−7 (1.00e−7 to 0.00123)')
  expect(differenceText({ ...factor, value: 999.7, low: 12.345, high: 12345.6 })).toBe('×1,000 (12.3 to 12,346)')
  const change = { ...difference, factor: false, value: 0.2, low: -0.04, high: 0.44 }
  expect(differenceText(change, 'share')).toBe('+20 points (−4 to +44)')
  expect(differenceText(change)).toBe('+0.2 (−0.04 to +0.44)')
})
