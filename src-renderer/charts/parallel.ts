import { type Axis, makeAxis } from './scale.ts'

/** One vertical axis: numbers on a scale, or names spread evenly. */
export interface ParallelDimension {
  id: string
  title: string
  /** A second line under the title. */
  detail?: string
  kind: 'number' | 'text'
  log?: boolean
  format?: (value: number) => string
}

export interface ParallelLine {
  id: string
  label: string
  color: string
  values: Record<string, number | string | null>
}

interface PlacedDimension extends ParallelDimension {
  x: number
  ticks: { at: number; label: string }[]
  place: (value: number | string | null | undefined) => number | null
}

/** The selected range of an axis, in pixels from its top. */
export interface Brush {
  from: number
  to: number
}

export function placeDimensions(
  dimensions: readonly ParallelDimension[],
  lines: readonly ParallelLine[],
  box: { left: number; right: number; top: number; bottom: number },
): PlacedDimension[] {
  const gap = dimensions.length > 1 ? (box.right - box.left) / (dimensions.length - 1) : 0
  return dimensions.map((dimension, at) => {
    const x = box.left + at * gap
    return dimension.kind === 'number' ? placeNumbers(dimension, lines, x, box) : placeNames(dimension, lines, x, box)
  })
}

function placeNumbers(
  dimension: ParallelDimension,
  lines: readonly ParallelLine[],
  x: number,
  box: { top: number; bottom: number },
): PlacedDimension {
  const values = lines.map(({ values }) => values[dimension.id]).filter((value): value is number => typeof value === 'number')
  const axis: Axis = makeAxis(values, [box.bottom, box.top], {
    log: dimension.log ?? false,
    ...(dimension.format ? { format: dimension.format } : {}),
  })
  return {
    ...dimension,
    x,
    ticks: axis.ticks,
    place: (value) => (typeof value === 'number' && Number.isFinite(value) ? axis.scale(value) : null),
  }
}

function placeNames(
  dimension: ParallelDimension,
  lines: readonly ParallelLine[],
  x: number,
  box: { top: number; bottom: number },
): PlacedDimension {
  const names = [...new Set(lines.map(({ values }) => values[dimension.id]).filter((value) => value !== null && value !== undefined))].map(
    String,
  )
  const at = (index: number) =>
    names.length === 1 ? (box.top + box.bottom) / 2 : box.top + (index / (names.length - 1)) * (box.bottom - box.top)
  return {
    ...dimension,
    x,
    ticks: names.map((name, index) => ({ at: at(index), label: fitLabel(name, 114) })),
    place: (value) => (value === null || value === undefined ? null : at(names.indexOf(String(value)))),
  }
}

/** Shortens text to a width in pixels, at the size of labels. */
export function fitLabel(text: string, pixels: number): string {
  const most = Math.max(6, Math.floor(pixels / 6))
  return text.length > most ? `${text.slice(0, most - 1)}…` : text
}

/** The ids of the lines that pass through every brush. A line without a value on a brushed axis does not. */
export function linesWithin(
  lines: readonly ParallelLine[],
  dimensions: readonly PlacedDimension[],
  brushes: Readonly<Record<string, Brush>>,
): Set<string> {
  const active = dimensions.filter(({ id }) => brushes[id])
  return new Set(
    lines
      .filter((line) =>
        active.every((dimension) => {
          const brush = brushes[dimension.id] as Brush
          const y = dimension.place(line.values[dimension.id])
          return y !== null && y >= brush.from - 0.5 && y <= brush.to + 0.5
        }),
      )
      .map(({ id }) => id),
  )
}

/** A brush with its ends in order and inside the axis; null if it is too small to be intended. */
export function tidyBrush(from: number, to: number, box: { top: number; bottom: number }): Brush | null {
  const clamp = (value: number) => Math.min(box.bottom, Math.max(box.top, value))
  const brush = { from: clamp(Math.min(from, to)), to: clamp(Math.max(from, to)) }
  return brush.to - brush.from < 4 ? null : brush
}

/** The path of a line through its axes, broken where a value is missing. */
export function linePath(line: ParallelLine, dimensions: readonly PlacedDimension[]): string {
  let path = ''
  let pen = false
  for (const dimension of dimensions) {
    const y = dimension.place(line.values[dimension.id])
    if (y !== null) path += `${pen ? 'L' : 'M'}${dimension.x.toFixed(1)} ${y.toFixed(1)}`
    pen = y !== null
  }
  return path
}
