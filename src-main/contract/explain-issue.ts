import { z } from 'zod'
import { plural } from './words.ts'

/** A problem with one field, as a sentence that names the field, the value and what is allowed. */
interface FieldIssue {
  /** Dotted path of the field; empty for the whole value. */
  field: string
  message: string
}

/**
 * Parses an untrusted value. Zod reads `length` even of values that are neither strings nor arrays, and throws if it cannot be compared
 * with a number. This function returns that error as an ordinary issue.
 */
export function readWith<T extends z.ZodType>(schema: T, value: unknown): z.ZodSafeParseResult<z.output<T>> {
  try {
    return schema.safeParse(value)
  } catch (thrown) {
    if (!(thrown instanceof TypeError)) throw thrown
    const message = 'Part of the value has a length that is not a number.'
    return { success: false, error: new z.ZodError([{ code: 'custom', path: [], message, input: value }]) as z.ZodError<z.output<T>> }
  }
}

/**
 * Turns a schema's issues into sentences.
 *
 * @param unknownName Returns the sentence for an unknown field.
 */
export function explainIssues({ issues }: z.ZodError, value: unknown, unknownName = explainUnknown): FieldIssue[] {
  return issues.flatMap((issue) => {
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map((key) => ({ field: [...issue.path, key].join('.'), message: unknownName(key) }))
    if (issue.code === 'invalid_union') {
      // The branch whose error lies deepest is most likely the one intended.
      const [best] = issue.errors.filter((branch) => branch.length > 0).sort((a, b) => depthOf(b) - depthOf(a))
      if (best && depthOf(best) > 0)
        return explainIssues({ issues: best.map((one) => ({ ...one, path: [...issue.path, ...one.path] })) } as z.ZodError, value)
    }
    const field = issue.path.join('.')
    const given = valueAt(value, issue.path)
    const name = field === '' ? 'This' : field
    if (issue.code === 'custom' || (issue.code === 'invalid_format' && !/^Invalid/.test(issue.message)))
      return [{ field, message: `${name} is ${given === undefined ? 'missing' : shown(given)}. ${issue.message}` }]
    if (given === undefined) return [{ field, message: `${name} is missing; it must be ${allowed(issue)}.` }]
    return [{ field, message: `${name} is ${shown(given)}; it must be ${allowed(issue)}.` }]
  })
}

const explainUnknown = (key: string): string => `Unknown field "${key}". Remove it.`

const depthOf = (issues: readonly z.core.$ZodIssue[]): number => Math.max(...issues.map(({ path }) => path.length))

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? (at as Record<PropertyKey, unknown>)[key] : undefined),
    value,
  )
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

const kinds: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'text',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
  null: 'null',
}

/** Says what a field accepts. The text follows "it must be". */
function allowed(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return kinds[issue.expected] ?? issue.expected
    case 'too_small':
      return bounded(issue.origin, issue.inclusive === false ? 'more than' : 'at least', Number(issue.minimum))
    case 'too_big':
      return bounded(issue.origin, issue.inclusive === false ? 'less than' : 'at most', Number(issue.maximum))
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`
    case 'invalid_value':
      return `one of ${issue.values.map((value) => String(value)).join(', ')}`
    case 'invalid_union':
      return 'of a kind that this field accepts'
    default:
      return 'in another format'
  }
}

function bounded(origin: string, comparison: string, limit: number): string {
  if (origin === 'string') return `${comparison} ${plural(limit, 'character')} long`
  if (origin === 'array' || origin === 'set') return `a list of ${comparison} ${plural(limit, 'entry', 'entries')}`
  return `${comparison} ${limit.toLocaleString('en', { useGrouping: 'min2', maximumFractionDigits: 20 })}`
}
