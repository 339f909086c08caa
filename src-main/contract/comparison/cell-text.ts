import type { Table, TableCell } from './table.ts'

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

/** Writes a number for tables: whole numbers exactly, others with significant digits as in charts, and five or more digits in groups. */
export function formatNumber(value: number): string {
  return digitsOf(value).replaceAll('-', '−')
}

function digitsOf(value: number): string {
  const size = Math.abs(value)
  if (Number.isInteger(value) && size < 1e12) return size < 1e4 ? String(value) : grouped.format(value)
  return size >= 1e6 ? value.toExponential(3) : significantDigits(value)
}

/** Writes four significant digits, three below one, and five or more in groups. Only for numbers other than 0 below a million. */
export function significantDigits(value: number): string {
  const rounded = Number(value.toPrecision(Math.abs(value) < 1 ? 3 : 4))
  const size = Math.abs(rounded)
  if (size >= 1e4) return grouped.format(value)
  if (size < 1e-3) return value.toExponential(2)
  return rounded.toFixed((size < 1 ? 2 : 3) - Math.floor(Math.log10(size)))
}

/** Shares closer than this to none or all differ from them by rounding only. */
const roundedShare = 1e-9

/**
 * Writes a share in percent, with one decimal if needed: `37.5 %`. Only none is written as `0 %` and only all as `100 %`: `99.97 %`,
 * `> 99.99 %`.
 */
export function shareText(share: number): string {
  const isPart = share > roundedShare && share < 1 - roundedShare
  for (const decimals of [1, 2]) {
    const rounded = Number((100 * share).toFixed(decimals))
    if (!isPart || (rounded > 0 && rounded < 100)) return `${String(rounded).replace('-', '−')} %`
  }
  return share < 0.5 ? '< 0.01 %' : '> 99.99 %'
}

/** Writes a p value as papers do: `0.012`, but `< 0.001` for all that are smaller. */
export const probabilityText = (p: number): string => (p < 0.001 ? '< 0.001' : p.toFixed(3))

/** Writes an error with two significant digits, and its value with the same decimal places. `12.3456, 0.5` becomes `12.35` and `0.50`. */
export function withError(value: number, error: number): { value: string; error: string } {
  const rough = Number(Math.abs(error).toPrecision(2))
  const place = lastPlace(rough)
  if (!Number.isFinite(value) || !Number.isFinite(place) || place > 6) return { value: formatNumber(value), error: formatNumber(rough) }
  const unit = 10 ** -place
  const to = (number: number) => (place > 0 ? number.toFixed(place).replace('-', '−') : formatNumber(Math.round(number / unit) * unit))
  return { value: to(value), error: to(rough) }
}

/** Writes a value and its spread with the digits that fit: `444 ± 64`, or a geometric mean with its factor, `444 ×/÷ 1.15`. */
export function spreadText(value: number, spread: number, factor = false): string {
  if (!factor) {
    const own = withError(value, spread)
    return `${own.value} ± ${own.error}`
  }
  const own = spread > 1 ? withError(value, value * (spread - 1)).value : formatNumber(value)
  return `${own} ×/÷ ${spread < 10 ? spread.toFixed(2) : formatNumber(spread)}`
}

/** Writes a cell. A number with an interval is `36.59 [32.10, 41.71]`, and all its numbers have `decimals` places, if given. */
export function cellText(cell: TableCell, decimals?: number): string {
  const { value, spread, factor, low, high, note } = cell
  if (value === null) return '–'
  if (typeof value !== 'number') return String(value)
  const places = decimals ?? placesOf([cell])
  const to = (number: number) =>
    Math.abs(number) >= 1e7 && !Number.isInteger(number)
      ? number.toExponential(1)
      : places === undefined
        ? formatNumber(number)
        : fixed(number, places)
  const own =
    low !== undefined && high !== undefined
      ? `${to(value)} [${to(low)}, ${to(high)}]`
      : typeof spread === 'number'
        ? spreadText(value, spread, factor)
        : decimals === undefined
          ? formatNumber(value)
          : to(value)
  return `${own}${note ? ` (${note})` : ''}`
}

/** Writes the cells of a table. Those of one measure have equal decimals. */
export function tableTexts({ rows, columns, alike }: Table): string[][] {
  const ofColumn = columns.map((_, at) => (alike === 'columns' ? placesOf(rows.flatMap((row) => row[at] ?? [])) : undefined))
  return rows.map((row) => {
    const ofRow = alike === 'rows' ? placesOf(row.filter((_, at) => !columns[at]?.apart)) : undefined
    return row.map((cell, at) => cellText(cell, columns[at]?.apart ? undefined : (ofRow ?? ofColumn[at])))
  })
}

/**
 * Returns the decimal places of numbers that are read together: those that the smallest has in `significantDigits`, but no more than leave
 * two digits in half of the narrowest interval. Undefined if there are only whole numbers, or if one is too small or too large to be written
 * without an exponent.
 */
export function placesOf(cells: readonly TableCell[]): number | undefined {
  const sizes = cells.flatMap(({ value }) => (typeof value === 'number' && value !== 0 && Number.isFinite(value) ? [Math.abs(value)] : []))
  const isWhole = sizes.every((size) => Number.isInteger(size))
  if (isWhole || Math.min(...sizes) < 1e-3 || Math.max(...sizes) >= 1e6) return undefined
  const smallest = Math.min(...sizes)
  const halves = cells.flatMap(({ low, high }) => (low !== undefined && high !== undefined && high > low ? [(high - low) / 2] : []))
  const supported = halves.length === 0 ? Number.POSITIVE_INFINITY : lastPlace(Math.min(...halves))
  return Math.max(0, Math.min(supported, (smallest < 1 ? 2 : 3) - Math.floor(Math.log10(smallest))))
}

/** The decimal place of the second significant digit of an error. */
const lastPlace = (error: number): number => 1 - Math.floor(Math.log10(Number(error.toPrecision(2))))

function fixed(value: number, places: number): string {
  const text = value.toLocaleString('en', {
    minimumFractionDigits: places,
    maximumFractionDigits: places,
    useGrouping: Math.abs(value) >= 1e4,
  })
  return text.replace('-', '−')
}
