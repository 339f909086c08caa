import { expect, test } from 'vitest'
import { seriesStyle } from '../../../src-renderer/lib/series.ts'

const methods = ['2ssp', 'shortgpt', 'window_based', 'blockpruner', 'evopress', 'slicegpt', 'seventh', 'eighth', 'ninth']

test('no two of the first eight methods share colour and shape', () => {
  const styles = methods.slice(0, 8).map((method) => JSON.stringify(seriesStyle(methods, method)))
  expect(new Set(styles).size).toBe(8)
})

test('the ninth method has the first colour again, but another shape', () => {
  const first = seriesStyle(methods, '2ssp')
  const ninth = seriesStyle(methods, 'ninth')
  expect(ninth.color).toBe(first.color)
  expect(ninth.shape).not.toBe(first.shape)
})

test('the dense model is drawn in ink', () => {
  expect(seriesStyle(methods, 'dense').color).toBe('var(--ink-soft)')
})
