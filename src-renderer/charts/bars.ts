import { type Axis, makeAxis } from './scale.ts'

export interface Bar {
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

/** Where grouped bars start: at zero for shares and counts, so that lengths compare honestly. */
export function barAxis(groups: readonly BarGroup[], range: [number, number], format: (value: number) => string): Axis {
  const values = groups.flatMap(({ bars }) => bars.flatMap(({ value, error }) => [value + (error ?? 0), value - (error ?? 0)]))
  const low = Math.min(0, ...values)
  const high = Math.max(0, ...values)
  const axis = makeAxis([low, high], range, { format })
  axis.scale.domain([low, high === low ? 1 : high * 1.04])
  const ticks = axis.scale
    .ticks(Math.max(2, Math.round(Math.abs(range[1] - range[0]) / 70)))
    .map((value) => ({ value, at: axis.scale(value), label: format(value) }))
  return { scale: axis.scale, ticks }
}

/** Where each group begins, and after the last one where they all end. */
export function groupTops(groups: readonly BarGroup[], barStep: number): number[] {
  const tops = [6]
  for (const { bars } of groups) tops.push((tops.at(-1) ?? 0) + bars.length * barStep + 14)
  return tops
}
