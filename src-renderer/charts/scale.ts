import { type ScaleContinuousNumeric, scaleLinear, scaleLog } from 'd3-scale'
import { formatTick } from '../lib/format.ts'

export interface Axis {
  scale: ScaleContinuousNumeric<number, number>
  ticks: { value: number; at: number; label: string }[]
}

/** Makes a scale with room at both ends and ticks that fit. Logarithmic only if all values are positive. A `domain` is used as given. */
export function makeAxis(
  values: readonly number[],
  range: [number, number],
  options: { log?: boolean; format?: (value: number) => string; spacing?: number; domain?: [number, number] | undefined } = {},
): Axis {
  const finite = (options.domain ?? values).filter(Number.isFinite)
  const log = options.log === true && finite.every((value) => value > 0) && finite.length > 0
  const format = options.format ?? formatTick
  const [low, high] = options.domain ?? paddedDomain(finite, log)
  const scale = (log ? scaleLog() : scaleLinear()).domain([low, high]).range(range)
  const count = Math.max(2, Math.round(Math.abs(range[1] - range[0]) / (options.spacing ?? 64)))
  const ticks = log ? logTicks(low, high, count) : scale.ticks(count)
  return { scale, ticks: ticks.map((value) => ({ value, at: scale(value), label: shortLabel(format(value)) })) }
}

/** Drops trailing zeros, because ticks are round numbers: `1.500` becomes `1.5`. */
function shortLabel(text: string): string {
  return text.replace(/(\.\d*?)0+(?!\d)/, '$1').replace(/\.(?!\d)/, '')
}

/** The range of the values with a margin of 6 % at both ends. A single value gets room around it. */
export function paddedDomain(values: readonly number[], log: boolean): [number, number] {
  if (values.length === 0) return log ? [1, 10] : [0, 1]
  const low = Math.min(...values)
  const high = Math.max(...values)
  if (log) {
    const factor = low === high ? 1.5 : (high / low) ** 0.06
    return [low / factor, high * factor]
  }
  const margin = low === high ? Math.max(Math.abs(low) * 0.1, 0.05) : (high - low) * 0.06
  return [low - margin, high + margin]
}

/** Ticks at 1, 2 and 5 times powers of ten, thinned to about `count`; a narrow range gets evenly spaced round numbers. */
export function logTicks(low: number, high: number, count: number): number[] {
  if (high / low < 4) return scaleLinear().domain([low, high]).ticks(count)
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = powersWithin(low, high, steps)
    if (ticks.length <= count + 2) return ticks
  }
  const powers = powersWithin(low, high, [1])
  const stride = Math.ceil(powers.length / count)
  return powers.filter((_, at) => at % stride === 0)
}

function powersWithin(low: number, high: number, steps: readonly number[]): number[] {
  const ticks: number[] = []
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of steps) {
      const value = Number((step * 10 ** power).toPrecision(12))
      if (value >= low && value <= high) ticks.push(value)
    }
  }
  return ticks
}
