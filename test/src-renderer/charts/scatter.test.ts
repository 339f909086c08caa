import { expect, test } from 'vitest'
import { frontOf, markPath, nearestPoint, type ScatterPoint, separate, seriesLines } from '../../../src-renderer/charts/scatter.ts'

function point(id: string, x: number, y: number, series = 'a'): ScatterPoint {
  return { id, label: id, series, x, y, size: 1, spread: null, color: 'red', shape: 'circle' }
}

test('the front holds what no other run beats: more removed and a lower perplexity', () => {
  const points = [point('a', 0.25, 20), point('b', 0.25, 30), point('c', 0.5, 60), point('d', 0.4, 70)]
  expect(
    frontOf(points, { x: 'higher', y: 'lower' })
      .map(({ id }) => id)
      .sort(),
  ).toEqual(['a', 'c'])
})

test('lines join the points of a method in order of x', () => {
  const lines = seriesLines([point('late', 2, 1), point('other', 1, 1, 'b'), point('early', 1, 1)])
  expect(lines.map(({ points }) => points.map(({ id }) => id))).toEqual([['early', 'late'], ['other']])
})

test('a line joins no points of one method that differ in more than their amount', () => {
  const lines = seriesLines([
    { ...point('one', 1, 1), line: 'x' },
    { ...point('other', 2, 1), line: 'y' },
    { ...point('late', 3, 1), line: 'x' },
  ])
  expect(lines.map(({ points }) => points.map(({ id }) => id))).toEqual([['one', 'late'], ['other']])
})

test('pointing roughly finds the nearest mark, far off none', () => {
  const marks = [
    { px: 10, py: 10 },
    { px: 30, py: 10 },
  ]
  expect(nearestPoint(marks, 26, 12, 28)).toBe(marks[1])
  expect(nearestPoint(marks, 200, 200, 28)).toBeNull()
})

test('every shape draws something', () => {
  for (const shape of ['circle', 'square', 'triangle', 'diamond', 'cross', 'star', 'wye'] as const)
    expect(markPath(shape, 60)).toMatch(/^M/)
})

test('marks that would hide each other are moved apart, and no other is', () => {
  const places = [
    { px: 100, py: 50 },
    { px: 103, py: 51 },
    { px: 140, py: 50 },
  ]
  const [first, second, alone] = separate(places)
  const at = (mark: typeof first) => [(mark?.px ?? 0) + (mark?.dx ?? 0), (mark?.py ?? 0) + (mark?.dy ?? 0)] as const
  expect(Math.hypot(at(first)[0] - at(second)[0], at(first)[1] - at(second)[1])).toBeGreaterThan(9)
  expect([alone?.dx, alone?.dy]).toEqual([0, 0])
})
