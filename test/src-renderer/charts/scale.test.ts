import { expect, test } from 'vitest'
import { logTicks, makeAxis, paddedDomain } from '../../../src-renderer/charts/scale.ts'

test('a log axis over a wide range has ticks at round powers, and no more than fit', () => {
  expect(logTicks(14, 4000, 6)).toEqual([20, 50, 100, 200, 500, 1000, 2000])
  expect(logTicks(1, 1e9, 4).length).toBeLessThanOrEqual(5)
})

test('a log axis over a narrow range still has ticks', () => {
  expect(logTicks(15, 22, 4).length).toBeGreaterThan(1)
})

test('zero or a negative value turns a log axis into a linear one instead of losing marks', () => {
  const { scale } = makeAxis([0, 10], [0, 100], { log: true })
  expect(Number.isFinite(scale(0))).toBe(true)
})

test('a single value gets room on both sides', () => {
  const [low, high] = paddedDomain([5], false)
  expect(low).toBeLessThan(5)
  expect(high).toBeGreaterThan(5)
})

test('infinite perplexities do not stretch the axis', () => {
  const { scale } = makeAxis([10, 20, Number.POSITIVE_INFINITY], [100, 0])
  expect(scale(20)).toBeLessThan(20)
})

test('ticks have no more digits than they need', () => {
  const { ticks } = makeAxis([0.5, 2.5], [0, 300], { format: (value) => `${value.toFixed(3)} s` })
  expect(ticks.map(({ label }) => label)).toEqual(expect.arrayContaining(['0.5 s', '1 s', '1.5 s', '2 s']))
})
