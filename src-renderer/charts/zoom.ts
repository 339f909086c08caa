import type { Axis } from './scale.ts'

/** The part of a chart that is shown, in the units of its axes. */
export interface Zoom {
  x: [number, number]
  y: [number, number]
}

interface Place {
  x: number
  y: number
}

/** Drags shorter than this many pixels are clicks. */
const shortest = 8

/** The rectangle between two positions, cut off at the edges of the chart. */
export function dragged(from: Place, to: Place, box: { left: number; right: number; top: number; bottom: number }) {
  const within = (value: number, low: number, high: number) => Math.min(high, Math.max(low, value))
  const [x1, x2] = [within(from.x, box.left, box.right), within(to.x, box.left, box.right)]
  const [y1, y2] = [within(from.y, box.top, box.bottom), within(to.y, box.top, box.bottom)]
  return { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1) }
}

/** The zoom to a dragged rectangle; null if the rectangle is too small to be intended. */
export function zoomTo({ x, y, width, height }: ReturnType<typeof dragged>, xAxis: Axis, yAxis: Axis): Zoom | null {
  if (width < shortest || height < shortest) return null
  const [left, right] = [xAxis.scale.invert(x), xAxis.scale.invert(x + width)]
  const [low, high] = [yAxis.scale.invert(y + height), yAxis.scale.invert(y)]
  return { x: [left, right], y: [low, high] }
}

export function isShown({ x, y }: Place, zoom: Zoom | null): boolean {
  return !zoom || (x >= zoom.x[0] && x <= zoom.x[1] && y >= zoom.y[0] && y <= zoom.y[1])
}
