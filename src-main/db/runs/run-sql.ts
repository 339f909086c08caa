import { runFields } from '#contract/runs/run-fields.ts'

export const runSource = 'FROM runs r JOIN models m ON m.id = r.model LEFT JOIN experiments e ON e.id = r.experiment'

/** Returns the column of a field: `created_at` for `createdAt`. */
export function columnOf(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** SQL expressions for filtering and sorting, by field, in terms of `runSource`. */
export const comparable: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.keys(runFields).map((field) => [field, `r.${columnOf(field)}`])),
  model: 'm.name',
  modelId: 'r.model',
  experiment: 'e.name',
  notes: 'r.notes',
}
