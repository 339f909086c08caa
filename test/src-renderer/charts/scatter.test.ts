import { expect, test } from 'vitest'
import { markShapes } from '#contract/comparison/series.ts'
import { makeAxis } from '../../../src-renderer/charts/scale.ts'
import {
  dragged,
  frontsOf,
  isShown,
  labelPlace,
  labelPlaces,
  markPath,
  nearestPoint,
  type ScatterPoint,
  separate,
  seriesLines,
  spreadEnds,
  whiskerPath,
  zoomTo,
} from '../../../src-renderer/charts/scatter.ts'

function point(id: string, x: number, y: number, series = 'a'): ScatterPoint {
  return { id, label: id, series, x, y, size: 1, spread: null, color: 'red', shape: 'circle' }
}

test('the front holds what no other run beats: more removed and a lower perplexity', () => {
  const points = [point('a', 0.25, 20), point('b', 0.25, 30), point('c', 0.5, 60), point('d', 0.4, 70)]
  const ids = (of: readonly ScatterPoint[], tolerance?: number) =>
    frontsOf(of, { better: 'higher', ...(tolerance ? { tolerance } : {}) }, { better: 'lower' })
      .flat()
      .map(({ id }) => id)
      .sort()
  expect(ids(points)).toEqual(['a', 'c'])
  const close = [...points, point('e', 0.503, 90)]
  expect([ids(close), ids(close, 0.01)], 'hardly more removed').toEqual([
    ['a', 'c', 'e'],
    ['a', 'c'],
  ])
})

test('points that cannot be compared have fronts of their own, and one alone has none', () => {
  const points = [point('a', 0.25, 20), point('b', 0.5, 60), { ...point('c', 0.25, 2), set: 1 }, { ...point('d', 0.5, 6), set: 1 }]
  const fronts = frontsOf([...points, { ...point('e', 0.9, 1), set: 2 }], { better: 'higher' }, { better: 'lower' })
  expect(fronts.map((front) => front.map(({ id }) => id).sort())).toEqual([
    ['a', 'b'],
    ['c', 'd'],
  ])
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

test('a deviation ends in a cap only where its end is shown', () => {
  const spread = { ...point('a', 0, 600), spread: 670 }
  expect(spreadEnds(spread, false)).toEqual([-70, 1270])
  // On a log axis a deviation is a factor, which stays above zero.
  expect(spreadEnds(spread, true)).toEqual([600 / (1 + 670 / 600), 1270])
  expect(spreadEnds({ ...spread, spread: 1.5, factor: true }, true)).toEqual([400, 900])
  const box = { top: 0, bottom: 100 }
  expect(whiskerPath(10, 20, 80, box)).toBe('M10 20V80M7 20h6M7 80h6')
  expect(whiskerPath(10, -5, Number.POSITIVE_INFINITY, box)).toBe('M10 0V100')
})

test('every shape draws something of its own', () => {
  const paths = markShapes.map((shape) => markPath(shape, 60))
  for (const path of paths) expect(path).toMatch(/^M/)
  expect(new Set(paths).size).toBe(markShapes.length)
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

const box = { left: 50, right: 450, top: 10, bottom: 310 }
const x = makeAxis([0, 1], [box.left, box.right])
const y = makeAxis([10, 1000], [box.bottom, box.top], { log: true })

test('a drag shows what lies inside it, whichever corner it starts from, and never more than the chart', () => {
  const drag = dragged({ x: 900, y: 200 }, { x: 250, y: 50 }, box)
  expect(drag).toEqual({ x: 250, y: 50, width: 200, height: 150 })
  const zoom = zoomTo(drag, x, y)
  expect(zoom?.x[0]).toBeCloseTo(0.5)
  expect(zoom?.y[0]).toBeLessThan(zoom?.y[1] ?? 0)
  expect(isShown({ x: 0.6, y: 100 }, zoom)).toBe(true)
  expect(isShown({ x: 0.4, y: 100 }, zoom)).toBe(false)
  const again = makeAxis([], [box.left, box.right], { domain: zoom?.x ?? [0, 0] })
  expect(again.scale(zoom?.x[0] ?? 0)).toBeCloseTo(box.left)
})

test('a click is no drag, and without a zoom everything is shown', () => {
  expect(zoomTo(dragged({ x: 100, y: 100 }, { x: 103, y: 180 }, box), x, y)).toBeNull()
  expect(isShown({ x: 7, y: 7 }, null)).toBe(true)
})

test('the label of a line leaves its place above the right end where it would hide a mark', () => {
  const box = { left: 50, right: 550, bottom: 250 }
  const place = (...marks: [px: number, py: number][]) =>
    labelPlace(
      'dense 7.090',
      200,
      marks.map(([px, py]) => ({ px, py })),
      box,
    )
  expect(place([300, 198])).toEqual({ x: 550, y: 195 })
  expect(place([530, 190])).toEqual({ x: 550, y: 214 })
  const further = place([530, 190], [520, 210])
  expect(further).toMatchObject({ y: 195 })
  expect(further.x).toBeLessThan(530)
  expect(further.x).toBeGreaterThan(500)
  const everywhere = Array.from({ length: 26 }, (_, i): [number, number] => [50 + 20 * i, 200])
  expect(place(...everywhere), 'nowhere free').toEqual({ x: 550, y: 195 })
})

test('labels of two lines close to each other do not overlap', () => {
  const lines = [200, 203].map((at) => ({ label: 'dense 7.090', at }))
  const [first, second] = labelPlaces(lines, [], { left: 50, right: 550, bottom: 250 })
  expect(first).toEqual({ x: 550, y: 195 })
  expect(Math.abs((second?.y ?? 0) - 195) >= 14 || (second?.x ?? 0) < 480).toBe(true)
})
