import { formatNumber } from './cell-text.ts'
import type { Difference } from './difference.ts'

/** A relative change below this is shown as none. */
export const leastChange = 0.0005

/** Writes a change against a baseline: `+47 %` or `−3.3 %`, or as a factor if the value is at least ten times as large, `×67`. */
export function changeText({ absolute, relative }: { absolute: number; relative: number | null }): string {
  if (absolute === 0) return '±0'
  if (relative === null) return absolute > 0 ? '+' : '−'
  if (relative >= 9) return `×${Math.round(relative + 1).toLocaleString('en')}`
  const percent = Math.abs(relative * 100)
  if (Math.abs(relative) < leastChange) return '±0.0 %'
  return `${absolute > 0 ? '+' : '−'}${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`
}

/** Writes a difference with its 95 % interval: `×0.80 (0.75 to 0.86)`, or for shares `+20 points (−4 to +44)`. */
export function differenceText({ factor, value, low, high }: Difference, unit = ''): string {
  const write = factor ? factorText : unit === 'share' ? pointsText : signedText
  return `${factor ? '×' : ''}${write(value)}${unit === 'share' ? ' points' : ''} (${write(low)} to ${write(high)})`
}

/** What an interval is based on: `8 windows`. */
export const basisText = ({ count, unit }: Difference): string => (count === 0 ? 'standard errors' : `${count} ${unit}s`)

/** Writes three significant digits, but all digits of whole thousands. */
function factorText(value: number): string {
  const rounded = Number(value.toPrecision(3))
  if (rounded >= 1000) return Math.round(value).toLocaleString('en')
  return rounded < 0.001 ? formatNumber(value) : value.toPrecision(3)
}

const pointsText = (value: number): string => signOf(value) + (100 * Math.abs(value)).toFixed(0)
const signedText = (value: number): string => signOf(value) + Number(Math.abs(value).toPrecision(2)).toString()
const signOf = (value: number): string => (value < 0 ? '−' : '+')
