import { expect, test } from 'vitest'
import { methodTitles } from '#contract/titles.ts'
import { seriesStyle } from '../../../src-renderer/lib/series.ts'

const methods = Object.keys(methodTitles)

test('no two methods have the same colour', () => {
  const colors = methods.map((method) => seriesStyle(methods, method).color)
  expect(new Set(colors).size).toBe(methods.length)
})

test('a method beyond the colours has the first one again, but another shape', () => {
  const many = Array.from({ length: 11 }, (_, at) => `method ${at}`)
  const [first, last] = [seriesStyle(many, 'method 0'), seriesStyle(many, 'method 10')]
  expect(last.color).toBe(first.color)
  expect(last.shape).not.toBe(first.shape)
})

test('the dense model is drawn in ink', () => {
  expect(seriesStyle(methods, 'dense').color).toBe('var(--ink-soft)')
})
