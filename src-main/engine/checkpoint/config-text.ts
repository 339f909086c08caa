import { isObject } from './json.ts'

/**
 * The paths of a config's numbers that are written with a point or an exponent (`rope_parameters.factor`, `list.0`). JavaScript has one
 * kind of number, but transformers distinguishes 8 from 8.0.
 */
export type Decimals = ReadonlySet<string>

// Raw JSON text cannot contain this string, because JSON allows the NUL character only as an escape.
const mark = '\u0000 decimal'

/** Finds the numbers that a config's text, which must be JSON, writes as decimals. */
export function findDecimals(text: string): Decimals {
  const marked = text.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g, (token) =>
    token.startsWith('"') || !/[.eE]/.test(token) ? token : JSON.stringify(mark),
  )
  const found = new Set<string>()
  collect(JSON.parse(marked.replace(/^\uFEFF/, '')), '', found)
  return found
}

function collect(value: unknown, path: string, found: Set<string>): void {
  if (value === mark) found.add(path)
  else if (Array.isArray(value) || isObject(value))
    for (const [key, inner] of Object.entries(value)) collect(inner, path === '' ? key : `${path}.${key}`, found)
}

/** Formats a config as JSON text. Whole numbers among `decimals` get `.0`. */
export function formatConfig(config: Record<string, unknown>, decimals: Decimals): string {
  return `${format(config, '', '\n', decimals)}\n`
}

function format(value: unknown, path: string, newline: string, decimals: Decimals): string {
  if (typeof value === 'number') return decimals.has(path) && Number.isSafeInteger(value) ? `${value}.0` : JSON.stringify(value)
  if (!Array.isArray(value) && !isObject(value)) return JSON.stringify(value) ?? 'null'
  const inner = `${newline}  `
  const entries = Object.entries(value).filter(([, child]) => child !== undefined)
  const texts = entries.map(([key, child]) => {
    const text = format(child, path === '' ? key : `${path}.${key}`, inner, decimals)
    return Array.isArray(value) ? text : `${JSON.stringify(key)}: ${text}`
  })
  const [open, close] = Array.isArray(value) ? '[]' : '{}'
  return texts.length === 0 ? `${open}${close}` : `${open}${inner}${texts.join(`,${inner}`)}${newline}${close}`
}
