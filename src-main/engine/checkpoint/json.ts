import { EspalierError } from '#contract/errors.ts'

export type JsonObject = Record<string, unknown>

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Parses text that must be one JSON object. `where` names the text in errors. */
export function parseObject(text: string, where: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch (error) {
    throw new EspalierError('invalid', `${where} is not JSON: ${reasonOf(error)}.`)
  }
  if (!isObject(value)) throw new EspalierError('invalid', `${where} must hold a JSON object, but holds ${describe(value)}.`)
  return value
}

/** Describes any value briefly for an error message. */
export function describe(value: unknown): string {
  if (Array.isArray(value)) return `an array of ${value.length}`
  const text = typeof value === 'object' && value !== null ? 'an object' : (JSON.stringify(value) ?? 'nothing')
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

/** The first key that occurs twice in the same object of valid JSON, at any depth; undefined if there is none. */
export function findDuplicateKey(json: string): string | undefined {
  const seen: Set<string>[] = []
  for (let at = 0; at < json.length; at++) {
    if (json[at] === '{') seen.push(new Set())
    else if (json[at] === '}') seen.pop()
    else if (json[at] === '"') {
      const end = endOfString(json, at)
      if (json[skipSpace(json, end)] === ':') {
        const key = JSON.parse(json.slice(at, end)) as string
        const keys = seen.at(-1)
        if (keys?.has(key)) return key
        keys?.add(key)
      }
      at = end - 1
    }
  }
  return undefined
}

/** The position after the closing quote of the string that begins at `start`. */
function endOfString(json: string, start: number): number {
  let at = start + 1
  while (json[at] !== '"') at += json[at] === '\\' ? 2 : 1
  return at + 1
}

function skipSpace(json: string, start: number): number {
  let at = start
  while (json[at] === ' ' || json[at] === '\n' || json[at] === '\r' || json[at] === '\t') at++
  return at
}

/** The message of a thrown value without its full stop, so that it can end a sentence. */
export function reasonOf(thrown: unknown): string {
  const text = (thrown instanceof Error ? thrown.message : String(thrown)).trim().replace(/\.+$/, '')
  if (thrown instanceof RangeError) return text.includes('call stack') ? 'it is nested too deeply' : 'a length in it is impossible'
  // The JavaScript engine's own message would mean nothing to a user.
  if (thrown instanceof TypeError) return 'its parts do not fit together'
  return text.replaceAll('undefined', 'nothing').replaceAll('[object Object]', 'an object').replaceAll('NaN', 'no number')
}

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
