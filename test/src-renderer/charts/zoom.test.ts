import { expect, test } from 'vitest'
import { makeAxis } from '../../../src-renderer/charts/scale.ts'
import { dragged, isShown, zoomTo } from '../../../src-renderer/charts/zoom.ts'

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
