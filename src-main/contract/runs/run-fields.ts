import { z } from 'zod'
import { id, moment, name } from '../identifiers.ts'
import { runStatus } from './run-status.ts'

interface Field<Schema extends z.ZodType> {
  readonly schema: Schema
  readonly label: string
  readonly kind: 'number' | 'text' | 'boolean' | 'moment'
  /** `share` is shown in percent. */
  readonly unit?: 'share' | 's'
  /** Whether lists of columns, filters and groups offer it. */
  readonly offered: boolean
}

function field<Schema extends z.ZodType>(
  schema: Schema,
  label: string,
  kind: Field<Schema>['kind'],
  more: Partial<Pick<Field<Schema>, 'unit' | 'offered'>> = {},
): Field<Schema> {
  return { schema, label, kind, offered: true, ...more }
}

/**
 * The fields of a run that hold one plain value, each with its column of the table `runs` (`createdAt` is `created_at`). Rows, statements,
 * filters, columns, groups and the screen's list follow from this table: a new field needs an entry here and a migration.
 */
export const runFields = {
  name: field(name, 'Name', 'text'),
  status: field(runStatus, 'Status', 'text'),
  method: field(z.string(), 'Method', 'text'),
  nominal: field(z.number().nullable(), 'Sparsity', 'number', { unit: 'share' }),
  reached: field(z.number().nullable(), 'Reached', 'number', { unit: 'share' }),
  seed: field(z.number().int(), 'Seed', 'number'),
  seconds: field(z.number().nullable(), 'Seconds', 'number', { unit: 's' }),
  createdAt: field(moment, 'Created', 'moment'),
  startedAt: field(moment.nullable(), 'Started', 'moment'),
  endedAt: field(moment.nullable(), 'Ended', 'moment'),
  starred: field(z.boolean(), 'Starred', 'boolean'),
  baseline: field(z.boolean(), 'Baseline', 'boolean'),
  device: field(z.string().nullable(), 'Device', 'text'),
  /** A cluster's name; null for this machine. */
  executor: field(z.string().nullable(), 'Cluster', 'text'),
  /** SHA-256 of the content of the model that it used; null until it has begun, and in runs of earlier versions. */
  fingerprint: field(z.string().nullable(), 'Model content', 'text', { offered: false }),
  hasPlan: field(z.boolean(), 'Has a plan', 'boolean', { offered: false }),
  parent: field(id.nullable(), 'Made from', 'text', { offered: false }),
} as const

export type RunField = keyof typeof runFields

/** The schema of these fields, as part of a run's entry. */
export const runFieldShape = Object.fromEntries(Object.entries(runFields).map(([field, { schema }]) => [field, schema])) as {
  [Name in RunField]: (typeof runFields)[Name]['schema']
}

/** Fields that name another table's row, with what they show. */
export const linkedFields = { experiment: 'Experiment', model: 'Model' } as const

/** The value of a field that lists offer; undefined for a field of another kind (a tag, a parameter, a measure). */
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
