import {
  type SymbolType,
  symbol,
  symbolCircle,
  symbolCross,
  symbolDiamond,
  symbolSquare,
  symbolStar,
  symbolTriangle,
  symbolWye,
} from 'd3-shape'
import { paretoFront } from '#contract/comparison/pareto.ts'
import { barEnds } from '#contract/comparison/seeds.ts'
import type { MarkShape } from '#contract/comparison/series.ts'
import type { SeriesStyle } from '../lib/series-style.ts'
import type { Axis } from './scale.ts'

export interface ScatterPoint extends SeriesStyle {
  id: string
  label: string
  series: string
  /** Points with the same value are joined by a line. By default, the points of a series are. */
  line?: string
  x: number
  y: number
  /** The size of the mark, as a share (0 to 1) of the largest. */
  size: number
  /** One standard deviation of y over seeds, or with `factor` its factor. */
  spread: number | null
  factor?: boolean
  /** Only points of equal sets can be compared, so each set has a front of its own. */
  set?: number
  /** Where there are several models: the dashes of its line, and whether its mark is hollow. */
  dashes?: string
  hollow?: boolean
}

/** A horizontal line at a value of y, such as the baseline's. */
export interface ReferenceLine {
  value: number
  label: string
  dashes?: string
}

/** A symbol turned by an angle in radians. */
const turned = (type: SymbolType, angle: number): SymbolType => ({
  draw(context, size) {
    const turn = (x: number, y: number) => [x * Math.cos(angle) - y * Math.sin(angle), x * Math.sin(angle) + y * Math.cos(angle)] as const
    const path = {
      moveTo: (x: number, y: number) => context.moveTo(...turn(x, y)),
      lineTo: (x: number, y: number) => context.lineTo(...turn(x, y)),
      closePath: () => context.closePath(),
    }
    type.draw(path as typeof context, size)
  },
})

const shapes = {
  circle: symbolCircle,
  square: symbolSquare,
  triangle: symbolTriangle,
  diamond: symbolDiamond,
  cross: symbolCross,
  star: symbolStar,
  wye: symbolWye,
  times: turned(symbolCross, Math.PI / 4),
  'triangle-down': turned(symbolTriangle, Math.PI),
} satisfies Record<MarkShape, SymbolType>

export function markPath(shape: MarkShape, area: number): string {
  return symbol(shapes[shape], area)() ?? ''
}

interface Direction {
  better: 'lower' | 'higher'
  /** Differences up to this do not count. */
  tolerance?: number
}

/** For each set of points that can be compared, those that no other point beats. A single point has no front. */
export function frontsOf<P extends ScatterPoint>(points: readonly P[], x: Direction, y: Direction): P[][] {
  const sign = { lower: 1, higher: -1 }
  const sets = [...Map.groupBy(points, ({ set = 0 }) => set).values()]
  const fronts = sets.map((own) => {
    const signed = own.map((point) => ({ point, x: point.x * sign[x.better], y: point.y * sign[y.better] }))
    return paretoFront(signed, x.tolerance).map(({ point }) => point)
  })
  return fronts.filter((front) => front.length > 1)
}

/** The lower and the upper end of a point's bar. */
export function spreadEnds({ y, spread, factor = false }: ScatterPoint, log: boolean): [number, number] {
  return spread === null ? [y, y] : barEnds(y, spread, { factor, log })
}

/** A vertical line between two heights in pixels, with a cap at each end. An end outside the chart is cut off and has no cap. */
export function whiskerPath(x: number, high: number, low: number, { top, bottom }: { top: number; bottom: number }): string {
  const cap = (at: number) => (at >= top && at <= bottom ? `M${x - 3} ${at}h6` : '')
  return `M${x} ${Math.max(high, top)}V${Math.min(low, bottom)}${cap(high)}${cap(low)}`
}

/** The front as a staircase: between two of its points, only what the first one reaches is known to be reachable. */
export function frontPath(front: readonly { px: number; py: number }[]): string {
  return front.map(({ px, py }, at) => (at === 0 ? `M${px.toFixed(1)} ${py.toFixed(1)}` : `H${px.toFixed(1)}V${py.toFixed(1)}`)).join('')
}

/** A straight line from mark to mark. */
export function linePath(marks: readonly { px: number; py: number }[]): string {
  return marks.map(({ px, py }, at) => `${at === 0 ? 'M' : 'L'}${px.toFixed(1)} ${py.toFixed(1)}`).join('')
}

/** Marks closer than this, in pixels, hide each other. */
const hiding = 6

/** Adds an offset to each mark. Marks that would overlap are moved apart onto a ring; the others stay where they are. */
export function separate<P extends { px: number; py: number }>(marks: readonly P[]): (P & { dx: number; dy: number })[] {
  const piles: P[][] = []
  for (const mark of marks) {
    const pile = piles.find(([first]) => first && Math.hypot(first.px - mark.px, first.py - mark.py) < hiding)
    if (pile) pile.push(mark)
    else piles.push([mark])
  }
  return piles.flatMap((pile) => {
    const radius = pile.length === 1 ? 0 : Math.max(7, 2 * pile.length)
    return pile.map((mark, at) => {
      const angle = (2 * Math.PI * at) / pile.length
      return { ...mark, dx: radius * Math.cos(angle), dy: radius * Math.sin(angle) }
    })
  })
}

/** About the width of a letter and the height of a line of a chart's text, in pixels. */
const [letterWidth, lineHeight] = [6.5, 14]

/** Where the labels of horizontal lines end: each hides neither a mark nor a label before it. */
export function labelPlaces(
  lines: readonly { label: string; at: number }[],
  marks: readonly { px: number; py: number }[],
  box: { left: number; right: number; bottom: number },
): { x: number; y: number }[] {
  const taken = [...marks]
  return lines.map(({ label, at }) => {
    const place = labelPlace(label, at, taken, box)
    for (let px = place.x; px > place.x - letterWidth * label.length; px -= hiding) taken.push({ px, py: place.y - hiding })
    return place
  })
}

/** Where the label of a horizontal line ends: above the line at its right, or else below it, or further left, where it hides no mark. */
export function labelPlace(
  label: string,
  at: number,
  marks: readonly { px: number; py: number }[],
  { left, right, bottom }: { left: number; right: number; bottom: number },
): { x: number; y: number } {
  const width = letterWidth * label.length + hiding
  const hides = (from: number, y: number) =>
    marks.some(({ px, py }) => px > from - hiding && px < from + width + hiding && py > y - lineHeight - hiding && py < y + hiding)
  const first = { x: right, y: at - 5 }
  for (let x = right; x > left + width; x -= hiding)
    for (const y of [first.y, at + lineHeight]) if (y < bottom && !hides(x - width, y)) return { x, y }
  return first
}

/** The points of each line, sorted by x. */
export function seriesLines<P extends ScatterPoint>(points: readonly P[]): { id: string; color: string; dashes: string; points: P[] }[] {
  const groups = Map.groupBy(points, ({ line, series }) => line ?? series)
  return [...groups].map(([id, members]) => ({
    id,
    color: members[0]?.color ?? '',
    dashes: members[0]?.dashes ?? '',
    points: [...members].sort((a, b) => a.x - b.x),
  }))
}

/** The nearest point within `reach` pixels, so that pointing need not be exact. */
export function nearestPoint<P extends { px: number; py: number }>(points: readonly P[], x: number, y: number, reach: number): P | null {
  let best: P | null = null
  let bestDistance = reach ** 2
  for (const point of points) {
    const distance = (point.px - x) ** 2 + (point.py - y) ** 2
    if (distance <= bestDistance) {
      best = point
      bestDistance = distance
    }
  }
  return best
}

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
