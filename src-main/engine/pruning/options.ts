import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'

/** The options of a method or an ablation. */
interface OptionOwner<Schema extends z.ZodObject = z.ZodObject> {
  readonly title: string
  readonly options: Schema
  /** Options of earlier versions with the reason for their removal. Requests may still name them; they are ignored. */
  readonly retired?: Readonly<Record<string, string>>
}

/** Returns an option that must be a whole number of at least 1. */
export const count = (defaultValue: number, meta: { title: string; help: string; unit?: string }) =>
  z.number().int().positive().default(defaultValue).meta(meta)

/** Returns the option that sets what the widths of MLPs are multiples of. */
export const widthUnit = (defaultValue: number) =>
  count(defaultValue, { title: 'Width unit', unit: 'neurons', help: 'Widths are multiples of this; quantised formats need 32.' })

/** Returns options with their defaults filled in. Throws `usage` with one sentence for each wrong field, and the fields in the details. */
export function parseOptions<Schema extends z.ZodObject>(
  { title, options, retired }: OptionOwner<Schema>,
  given: unknown,
): z.infer<Schema> {
  const current = retired ? withoutNames(given, Object.keys(retired)) : given
  const parsed = readWith(options.strict(), current)
  if (parsed.success) return parsed.data as z.infer<Schema>
  const known = Object.keys(options.shape).join(', ')
  const issues = explainIssues(parsed.error, current, (name) => `${title} has no option "${name}". It has: ${known}.`)
  throw new EspalierError('usage', issues.map(({ message }) => message).join(' '), { issues })
}

function withoutNames(given: unknown, names: readonly string[]): unknown {
  if (typeof given !== 'object' || given === null) return given
  return Object.fromEntries(Object.entries(given).filter(([name]) => !names.includes(name)))
}

/** Returns a note for each retired option that a request sets. 0 is ignored silently, because it turned these options off. */
export function retiredNotes({ title, retired = {} }: Omit<OptionOwner, 'options'>, given: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(retired).flatMap(([name, reason]) =>
    given[name] ? [`${title}: the option "${name}" was removed and is ignored. ${reason}`] : [],
  )
}
