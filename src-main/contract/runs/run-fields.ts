import { z } from 'zod'
import { id, moment, name } from '../identifiers.ts'
import { runStatus } from './run-status.ts'

interface Field<Schema extends z.ZodType> {
  readonly schema: Schema
  readonly label: string
  readonly kind: 'number' | 'text' | 'boolean' | 'moment'
  /** `share` is shown in percent. */
  readonly unit?: 'share' | 's'
  /** Whether the lists of columns, filters and groups offer the field. */
  readonly offered: boolean
}

type More<Schema extends z.ZodType> = Partial<Pick<Field<Schema>, 'unit' | 'offered'>>

function field<Schema extends z.ZodType>(
  schema: Schema,
  label: string,
  kind: Field<Schema>['kind'],
  more: More<Schema> = {},
): Field<Schema> {
  return { schema, label, kind, offered: true, ...more }
}

/** Declares a field that is known when the run is made. */
function given<Schema extends z.ZodType>(...entry: Parameters<typeof field<Schema>>): Field<Schema> & { readonly given: true } {
  return { ...field(...entry), given: true }
}

/** Declares a field that an attempt writes. A retry starts without it. */
function written<Schema extends z.ZodType>(...entry: Parameters<typeof field<Schema>>): Field<Schema> & { readonly written: true } {
  return { ...field(...entry), written: true }
}

/**
 * Scalar fields of a run, each a column of the SQL table `runs` (`createdAt` is `created_at`). Rows, statements, filters, columns, groups
 * and the screen's list are derived from this object. A new field needs an entry here, a migration, and code that writes it.
 */
export const runFields = {
  name: given(name, 'Name', 'text'),
  status: given(runStatus, 'Status', 'text'),
  method: given(z.string(), 'Method', 'text'),
  nominal: given(z.number().nullable(), 'Sparsity', 'number', { unit: 'share' }),
  reached: written(z.number().nullable(), 'Reached', 'number', { unit: 'share' }),
  seed: given(z.number().int(), 'Seed', 'number'),
  seconds: written(z.number().nullable(), 'Seconds', 'number', { unit: 's' }),
  createdAt: given(moment, 'Created', 'moment'),
  startedAt: written(moment.nullable(), 'Started', 'moment'),
  endedAt: written(moment.nullable(), 'Ended', 'moment'),
  starred: field(z.boolean(), 'Starred', 'boolean'),
  baseline: given(z.boolean(), 'Baseline', 'boolean'),
  device: written(z.string().nullable(), 'Device', 'text'),
  /** A cluster's name; null for this machine. */
  executor: given(z.string().nullable(), 'Cluster', 'text'),
  /** SHA-256 of the model's content; null until the run starts, and in runs of earlier versions. */
  fingerprint: written(z.string().nullable(), 'Model content', 'text', { offered: false }),
  hasPlan: written(z.boolean(), 'Has a plan', 'boolean', { offered: false }),
  parent: given(id.nullable(), 'Made from', 'text', { offered: false }),
} as const

export type RunField = keyof typeof runFields
export type GivenField = { [Name in RunField]: (typeof runFields)[Name] extends { given: true } ? Name : never }[RunField]
export type WrittenField = { [Name in RunField]: (typeof runFields)[Name] extends { written: true } ? Name : never }[RunField]
/** The fields that an attempt writes, as they are before any attempt. */
export const unwrittenFields = Object.fromEntries(
  Object.entries(runFields).flatMap(([field, entry]) => ('written' in entry ? [[field, entry.kind === 'boolean' ? false : null]] : [])),
) as Record<WrittenField, false | null>
export const givenFields = Object.entries(runFields).flatMap(([field, entry]) => ('given' in entry ? [field] : [])) as GivenField[]

export const runFieldShape = Object.fromEntries(Object.entries(runFields).map(([field, { schema }]) => [field, schema])) as {
  [Name in RunField]: (typeof runFields)[Name]['schema']
}

/** Fields that refer to a row of another SQL table, with their titles. */
export const linkedFields = { experiment: 'Experiment', model: 'Model' } as const

/** Returns the value of a scalar field, or the name of a linked row. Undefined for other fields (a tag, a parameter, a measure). */
export function valueOfField(
  run: { [Name in RunField]: z.infer<(typeof runFields)[Name]['schema']> } & {
    experiment: { name: string } | null
    model: { name: string }
  },
  field: string,
): string | number | boolean | null | undefined {
  if (field === 'experiment') return run.experiment?.name ?? null
  if (field === 'model') return run.model.name
  return Object.hasOwn(runFields, field) ? run[field as RunField] : undefined
}
