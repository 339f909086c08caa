import { scaleLinear } from 'd3-scale'
import { line } from 'd3-shape'
import type { Fit, FittedBlock } from '#contract/pruning/fit.ts'
import type { Axis } from '../../../charts/scale.ts'

interface FitScale {
  x: (width: number) => number
  y: (divergence: number) => number
  ticks: Axis['ticks']
}

/** Widths are horizontal, divergences vertical. Lines fall to the right; a steep one is a block that needs its neurons. */
export function fitScale({ widths, blocks }: Fit, width: number, height: number): FitScale {
  const all = blocks.flatMap(({ divergences }) => divergences)
  const x = scaleLinear([widths[0] ?? 0, widths.at(-1) ?? 1], [24, Math.max(48, width - 24)])
  const y = scaleLinear([Math.min(0, ...all), Math.max(1e-9, ...all)], [height - 28, 10])
  return { x, y, ticks: widths.map((value) => ({ value, at: x(value), label: String(value) })) }
}

/** A block's line, and the point on it that was chosen. */
export function curveOf({ widths }: Fit, { divergences, width }: FittedBlock, { x, y }: FitScale): { path: string; x: number; y: number } {
  const points = widths.map((value, at): [number, number] => [value, divergences[at] ?? 0])
  const valueAt = scaleLinear([...widths], [...divergences]).clamp(true)
  const path = line<[number, number]>(
    ([value]) => x(value),
    ([, divergence]) => y(divergence),
  )(points)
  return { path: path ?? '', x: x(width), y: y(valueAt(width)) }
}
