import { z } from 'zod'
import type { MethodEntry, OptionField } from '#contract/pruning/methods.ts'
import { ablations } from './ablations/index.ts'
import type { Method } from './method.ts'
import { methods } from './registry.ts'

interface JsonField {
  readonly type?: string
  readonly enum?: (string | number | boolean | null)[]
  readonly const?: string | number | boolean | null
  readonly anyOf?: JsonField[]
  readonly default?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
  readonly title?: string
  readonly help?: string
  readonly unit?: string
  readonly empty?: string
}

/** Returns the values of a field that is a choice, or undefined for other fields. */
function choicesOf(field: JsonField): OptionField['choices'] {
  if (field.enum) return field.enum
  const constants = field.anyOf?.map((entry) => entry.const)
  return constants?.every((value) => value !== undefined) ? (constants as NonNullable<OptionField['choices']>) : undefined
}

function kindOf(field: JsonField): OptionField['kind'] {
  if (choicesOf(field)) return 'choice'
  if (field.type === 'integer' || field.type === 'number' || field.type === 'boolean') return field.type
  return field.type === 'array' ? 'list' : 'text'
}

/** Drops the bounds that Zod sets on whole numbers because of double precision. A form does not need them. */
const bound = (value: number | undefined) => (value === undefined || Math.abs(value) >= Number.MAX_SAFE_INTEGER ? undefined : value)

function toField(name: string, field: JsonField): OptionField {
  const choices = choicesOf(field)
  const minimum = bound(field.minimum)
  const above = bound(field.exclusiveMinimum)
  const maximum = bound(field.maximum)
  return {
    name,
    kind: kindOf(field),
    label: field.title ?? name,
    help: field.help ?? '',
    default: field.default,
    required: false,
    ...(minimum === undefined ? {} : { minimum }),
    ...(above === undefined ? {} : { above }),
    ...(maximum === undefined ? {} : { maximum }),
    ...(choices ? { choices } : {}),
    ...(field.unit === undefined ? {} : { unit: field.unit }),
    ...(field.empty === undefined ? {} : { empty: field.empty }),
  }
}

function fieldsOf(options: z.ZodObject): OptionField[] {
  const schema = z.toJSONSchema(options, { io: 'input' }) as { properties?: Record<string, JsonField> }
  return Object.entries(schema.properties ?? {}).map(([name, field]) => toField(name, field))
}

/** Returns every method with its options as form fields, which are derived from its schema. */
export function methodEntries(): MethodEntry[] {
  return Object.entries<Method>(methods).map(
    ([id, { title, paper, own = false, summary, unit, options, repair = null, refitProblem }]) => ({
      id,
      title,
      paper,
      own,
      summary,
      unit,
      options: fieldsOf(options),
      repair,
      refits: refitProblem?.(options.parse({})) === undefined,
    }),
  )
}

/** Returns every ablation of 2SSP in the form of `methodEntries`. */
export function ablationEntries(): MethodEntry[] {
  const { paper } = methods['2ssp']
  return Object.entries(ablations).map(([id, { title, summary, options }]) => ({
    id,
    title,
    paper,
    own: false,
    summary,
    unit: 'study',
    options: fieldsOf(options),
    repair: null,
    refits: false,
  }))
}
