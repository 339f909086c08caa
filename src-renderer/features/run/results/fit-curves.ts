import { scaleLinear } from 'd3-scale'
import { line } from 'd3-shape'
import type { Fit, FittedBlock } from '#contract/pruning/fit.ts'
import { type Axis, makeAxis } from '../../../charts/scale.ts'

interface FitScale {
  x: Axis
  y: Axis
}

/** Widths are horizontal, divergences vertical. Lines fall to the right; a steep one is a block that needs its neurons. */
export function fitScale({ widths, blocks }: Fit, box: { left: number; right: number; top: number; bottom: number }): FitScale {
  const x = scaleLinear([widths[0] ?? 0, widths.at(-1) ?? 1], [box.left, box.right])
  return {
    x: { scale: x, ticks: widths.map((value) => ({ value, at: x(value), label: String(value) })) },
    y: makeAxis([0, ...blocks.flatMap(({ divergences }) => divergences)], [box.bottom, box.top], { spacing: 40 }),
  }
}

/** A block's line, and the point on it that was chosen. */
export function curveOf({ widths }: Fit, { divergences, width }: FittedBlock, { x, y }: FitScale): { path: string; x: number; y: number } {
  const points = widths.map((value, at): [number, number] => [value, divergences[at] ?? 0])
  const valueAt = scaleLinear([...widths], [...divergences]).clamp(true)
  const path = line<[number, number]>(
    ([value]) => x.scale(value),
    ([, divergence]) => y.scale(divergence),
  )(points)
  return { path: path ?? '', x: x.scale(width), y: y.scale(valueAt(width)) }
}
