import { shareText, significantDigits, withError } from '#contract/comparison/cell-text.ts'
import type { SecondsRange } from '#contract/runs/time/estimate.ts'
import { secondsText } from '#contract/runs/time/seconds-text.ts'

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const byteUnits = ['B', 'kB', 'MB', 'GB', 'TB']

/** 2490000 -> `2.49 M`. Numbers below 10,000 keep all digits. */
export function formatCount(value: number): string {
  const size = Math.abs(value)
  if (size < 10_000) return grouped.format(value)
  if (size < 1e6) return `${trim(value / 1e3)} k`
  if (size < 1e9) return `${trim(value / 1e6)} M`
  return `${trim(value / 1e9)} B`
}

/** `30.5 B`, or `30.5 B (3.35 B active)` if each token uses only some of the parameters. */
export function formatParameters({ total, active }: { total: number; active?: number | undefined }): string {
  return active === undefined ? formatCount(total) : `${formatCount(total)} (${formatCount(active)} active)`
}

export function formatInteger(value: number): string {
  return grouped.format(value)
}

/** Uses decimal units (1 kB is 1000 bytes), as disk makers do. */
export function formatBytes(bytes: number): string {
  let unit = 0
  let value = bytes
  while (Math.abs(value) >= 1000 && unit < byteUnits.length - 1) {
    value /= 1000
    unit += 1
  }
  return `${unit === 0 ? grouped.format(value) : trim(value)} ${byteUnits[unit]}`
}

/** `0.42 s`, `12 s`, `3 min 20 s`, `2 h 05 min`. */
export function formatSeconds(seconds: number): string {
  if (seconds === 0) return '0 s'
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`
  return seconds < 0.1 ? `${trim(seconds * 1000)} ms` : secondsText(seconds)
}

/** `about 40 s`, or `20 to 80 s` if the range is wide; short enough for a table. */
export function formatSecondsRange({ low, likely, high }: SecondsRange): string {
  if (high < 1) return 'under 1 s'
  return high / Math.max(low, 1e-9) < 2 ? `about ${formatRough(likely)}` : roughRange(low, high)
}

/** Writes both ends with two digits, in the unit of the higher end. A lower end below 1 of that unit gets its own unit. */
function roughRange(low: number, high: number): string {
  const inUnit = (seconds: number, size: number) => Number((seconds / size).toPrecision(2))
  const [size, unit] = roughUnit(high)
  const [lowSize, lowUnit] = inUnit(low, size) >= 1 ? [size, unit] : roughUnit(low)
  return `${inUnit(low, lowSize)}${lowUnit === unit ? '' : ` ${lowUnit}`} to ${inUnit(high, size)} ${unit}`
}

function roughUnit(seconds: number): [size: number, name: string] {
  if (seconds < 99.5) return [1, 's']
  return seconds < 99.5 * 60 ? [60, 'min'] : [3600, 'h']
}

/** Rounds to what an estimate can promise: whole seconds below a minute, then the steps of `roundTime`. */
function formatRough(seconds: number): string {
  const size = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(seconds, 1))) - 1)
  const rough = seconds < 10 ? Math.max(1, Math.round(seconds)) : seconds < 60 ? Math.round(seconds / size) * size : roundTime(seconds)
  return formatSeconds(rough).replace(/ 00 (s|min)$|\.0(?= s$)/, '')
}

/** Rounds to 5 seconds below 10 minutes, to a minute below an hour, and to 5 minutes above. */
function roundTime(seconds: number): number {
  const step = seconds < 600 ? 5 : seconds < 3600 ? 60 : 300
  return Math.round(seconds / step) * step
}

/** Keeps each number of a name on one line with its percent sign, and the number of a seed with its word. */
export function holdPercents(name: string): string {
  return name.replaceAll(' %', '\u00a0%').replace(/\bseed (?=\d)/g, 'seed\u00a0')
}

export { shareText as formatShare }

/** Four significant digits, three below 1. From 10,000 on all digits in groups, from a million on as in `formatCount`. */
export function formatValue(value: number): string {
  if (!Number.isFinite(value)) return value > 0 ? '∞' : Number.isNaN(value) ? '–' : '−∞'
  if (value === 0) return '0'
  return Math.abs(value) >= 1e6 ? formatCount(value) : minus(significantDigits(value))
}

/** A number on an axis, without trailing zeros. */
export function formatTick(value: number): string {
  const [digits = '', power] = formatValue(value).split('e')
  return power === undefined ? trimZeros(digits) : `${trimZeros(digits)}e${power}`
}

/** A measure in the form of its unit: bytes, times and shares as this file writes them, anything else as a plain number. */
export function formatMeasure(value: number, unit: string): string {
  if (unit === 'bytes') return formatBytes(value)
  if (unit === 'seconds' || unit === 's') return formatSeconds(value)
  if (unit === 'ms') return `${formatValue(value)} ms`
  if (unit === 'share' || unit === 'fraction') return shareText(value)
  if (Number.isInteger(value) && Math.abs(value) >= 10_000) return formatCount(value)
  return Number.isInteger(value) ? minus(String(value)) : formatValue(value)
}

/** A measure and its error, rounded to the digits that the error supports, with one unit. Bytes and long times keep their form. */
export function formatEstimate(value: number, error: number, unit: string): { value: string; error: string } {
  const isTime = unit === 'seconds' || unit === 's'
  if (unit === 'bytes' || (isTime && value >= 60)) return { value: formatMeasure(value, unit), error: formatMeasure(error, unit) }
  const shares = unit === 'share' || unit === 'fraction'
  const short = isTime && value < 1
  const factor = shares ? 100 : short ? 1000 : 1
  const sign = shares ? ' %' : short || unit === 'ms' ? ' ms' : isTime ? ' s' : ''
  const found = withError(value * factor, error * factor)
  return { value: found.value, error: found.error + sign }
}

/** A difference always carries its sign. */
export function formatDelta(delta: number, unit = ''): string {
  if (delta === 0) return '±0'
  const size = Math.abs(delta)
  // “%” could mean percent or percentage points, so this says points.
  const text = unit === 'share' || unit === 'fraction' ? `${trimZeros((size * 100).toFixed(1))} points` : formatMeasure(size, unit)
  return `${delta > 0 ? '+' : '−'}${text}`
}

/** How long ago a moment was, short enough for a table. Show the full date in a tooltip. */
export function formatAgo(moment: number, now: number): string {
  const seconds = Math.round((now - moment) / 1000)
  // The clock was set back since.
  if (seconds < -60) return formatDay(moment)
  if (seconds < 45) return 'just now'
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min ago`
  if (seconds < 86_400) return `${Math.round(seconds / 3600)} h ago`
  if (seconds < 30 * 86_400) return `${Math.round(seconds / 86_400)} d ago`
  return formatDay(moment)
}

/** The local day of a moment, as it is typed too: `2026-11-25`. */
export function formatDay(moment: number): string {
  const date = new Date(moment)
  const two = (value: number) => String(value).padStart(2, '0')
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
}

export function formatMoment(moment: number): string {
  return new Date(moment).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' })
}

/** `1 run`, `3 runs`. */
export function formatPlural(count: number, one: string, many = `${one}s`): string {
  return `${grouped.format(count)} ${count === 1 ? one : many}`
}

function trim(value: number): string {
  const size = Math.abs(value)
  return trimZeros(value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2))
}

function trimZeros(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}

export function minus(text: string): string {
  return text.replace('-', '−')
}
