import { isObject } from './json.ts'

/**
 * Numbers of a config that are whole but written as decimals, by their path (`rope_parameters.factor`, `list.0`). JavaScript has one kind
 * of number, but transformers distinguishes 8 from 8.0.
 */
export type Decimals = ReadonlySet<string>

// No text in a config can equal this: JSON has no such character except as an escape.
const mark = '\u0000 decimal'

/** The decimals of a config's text, which must be JSON. */
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

/** A config as JSON text that keeps its decimals. */
export function formatConfig(config: Record<string, unknown>, decimals: Decimals): string {
  return `${format(config, '', '\n', decimals)}\n`
}

function format(value: unknown, path: string, newline: string, decimals: Decimals): string {
  if (typeof value === 'number') return decimals.has(path) && Number.isSafeInteger(value) ? `${value}.0` : JSON.stringify(value)
  if (!Array.isArray(value) && !isObject(value)) return JSON.stringify(value) ?? 'null'
  const inner = `${newline}  `
  const entries = Object.entries(value).filter(([, own]) => own !== undefined)
  const texts = entries.map(([key, own]) => {
    const text = format(own, path === '' ? key : `${path}.${key}`, inner, decimals)
    return Array.isArray(value) ? text : `${JSON.stringify(key)}: ${text}`
  })
  const [open, close] = Array.isArray(value) ? '[]' : '{}'
  return texts.length === 0 ? `${open}${close}` : `${open}${inner}${texts.join(`,${inner}`)}${newline}${close}`
}
