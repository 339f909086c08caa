import { barEnds } from '#contract/comparison/seeds.ts'
import { type Axis, makeAxis } from './scale.ts'

interface Bar {
  id: string
  label: string
  color: string
  value: number
  /** One standard error, or with `factor` its factor. */
  error: number | null
  factor?: boolean
}

/** The lower and the upper end of a bar's error. */
export const errorEnds = ({ value, error, factor = false }: Bar, log: boolean): [number, number] =>
  error === null ? [value, value] : barEnds(value, error, { factor, log })

export interface BarGroup {
  title: string
  bars: Bar[]
}

/** The axis of bars starts at zero, so that lengths compare honestly. A logarithmic axis has no zero, so it spans the values of dots. */
export interface BarAxis extends Axis {
  start: number
  isLog: boolean
}

export function barAxis(groups: readonly BarGroup[], range: [number, number], format: (value: number) => string, log = false): BarAxis {
  const bars = groups.flatMap((group) => group.bars)
  const isLog = log && bars.length > 0 && bars.every(({ value }) => value > 0)
  const values = bars.flatMap((bar) => errorEnds(bar, isLog))
  if (isLog) {
    const axis = makeAxis(values, range, { log, format })
    return { ...axis, start: axis.scale.domain()[0] ?? 1, isLog: true }
  }
  const low = Math.min(0, ...values)
  const high = Math.max(0, ...values)
  const axis = makeAxis([low, high], range, { format, domain: [low, high === low ? 1 : high * 1.04], spacing: 70 })
  return { ...axis, start: 0, isLog: false }
}

/** The top of the bars of each group, in pixels, followed by the bottom of all. Each group has `head` pixels for a title above its bars. */
export function groupTops(groups: readonly BarGroup[], barStep: number, head = 0): number[] {
  const tops = [6 + head]
  for (const { bars } of groups) tops.push((tops.at(-1) ?? 0) + bars.length * barStep + 14 + head)
  return [...tops.slice(0, -1), (tops.at(-1) ?? 0) - head]
}

/** Shortens a label to `letters` letters. It is cut in the middle because names differ at their ends. */
export function shorten(label: string, letters: number): string {
  if (label.length <= letters) return label
  const kept = Math.max(4, letters - 1)
  return `${label.slice(0, Math.ceil(kept / 2))}…${label.slice(label.length - Math.floor(kept / 2))}`
}
