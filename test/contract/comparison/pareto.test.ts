import { expect, test } from 'vitest'
import { paretoFront } from '#contract/comparison/pareto.ts'

test('the front holds what nothing beats in both directions', () => {
  const points = [
    { x: 0.5, y: 20 },
    { x: 0.25, y: 30 },
    { x: 0.5, y: 25 },
    { x: 0.75, y: 20 },
    { x: 0.9, y: 10 },
  ]
  expect(paretoFront(points)).toEqual([
    { x: 0.25, y: 30 },
    { x: 0.5, y: 20 },
    { x: 0.9, y: 10 },
  ])
  expect(paretoFront(points, 0.45), 'each that is left out is beaten by one that stays').toEqual([
    { x: 0.25, y: 30 },
    { x: 0.9, y: 10 },
  ])
})
