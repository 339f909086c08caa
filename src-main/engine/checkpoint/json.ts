import { EspalierError } from '#contract/errors.ts'

export type JsonObject = Record<string, unknown>

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Parses text that must hold one JSON object; `where` names it in the error. */
export function parseObject(text: string, where: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch (error) {
    throw new EspalierError('invalid', `${where} is not JSON: ${reasonOf(error)}.`)
  }
  if (!isObject(value)) throw new EspalierError('invalid', `${where} must hold a JSON object, it holds ${describe(value)}.`)
  return value
}

/** A short form of any value for an error message. */
export function describe(value: unknown): string {
  if (Array.isArray(value)) return `an array of ${value.length}`
  const text = typeof value === 'object' && value !== null ? 'an object' : (JSON.stringify(value) ?? String(value))
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

/** A key that an object of valid JSON holds twice, among its own keys and those of the objects right inside it. */
export function findDuplicateKey(json: string): string | undefined {
  const seen: Set<string>[] = []
  const tokens = json.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|[{}]/g)
  for (const [token, colon] of tokens) {
    if (token === '{') seen.push(new Set())
    else if (token === '}') seen.pop()
    else if (colon !== undefined) {
      const key = JSON.parse(token.slice(0, -colon.length)) as string
      const keys = seen.at(-1)
      if (keys?.has(key)) return key
      keys?.add(key)
    }
  }
  return undefined
}

/** What a thrown value says, without its full stop, to end a sentence with. */
export function reasonOf(thrown: unknown): string {
  return (thrown instanceof Error ? thrown.message : String(thrown)).trim().replace(/\.+$/, '')
}
