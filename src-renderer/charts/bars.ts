import { scaleLog } from 'd3-scale'
import { type Axis, logTicks, makeAxis } from './scale.ts'

interface Bar {
  id: string
  label: string
  color: string
  value: number
  /** One standard error. */
  error: number | null
}

export interface BarGroup {
  title: string
  bars: Bar[]
}

/** Where grouped bars start: at zero, so that lengths compare honestly, or on a logarithmic axis at one, where a perplexity says that nothing is unsure. */
export function barAxis(
  groups: readonly BarGroup[],
  range: [number, number],
  format: (value: number) => string,
  log = false,
): Axis & { start: number } {
  const values = groups.flatMap(({ bars }) => bars.flatMap(({ value, error }) => [value + (error ?? 0), value - (error ?? 0)]))
  if (log && values.every((value) => value > 0)) return logAxis(values, range, format)
  const low = Math.min(0, ...values)
  const high = Math.max(0, ...values)
  const axis = makeAxis([low, high], range, { format })
  axis.scale.domain([low, high === low ? 1 : high * 1.04])
  const ticks = axis.scale
    .ticks(Math.max(2, Math.round(Math.abs(range[1] - range[0]) / 70)))
    .map((value) => ({ value, at: axis.scale(value), label: format(value) }))
  return { scale: axis.scale, ticks, start: 0 }
}

function logAxis(values: readonly number[], range: [number, number], format: (value: number) => string): Axis & { start: number } {
  const scale = scaleLog()
    .domain([Math.min(1, ...values), Math.max(2, ...values) * 1.15])
    .range(range)
  const [low = 1, high = 2] = scale.domain()
  const ticks = logTicks(low, high, Math.max(2, Math.round(Math.abs(range[1] - range[0]) / 70)))
  return { scale, ticks: ticks.map((value) => ({ value, at: scale(value), label: format(value) })), start: low }
}

/** Where each group begins, and after the last one where they all end. */
export function groupTops(groups: readonly BarGroup[], barStep: number): number[] {
  const tops = [6]
  for (const { bars } of groups) tops.push((tops.at(-1) ?? 0) + bars.length * barStep + 14)
  return tops
}
