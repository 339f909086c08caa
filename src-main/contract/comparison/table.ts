import { z } from 'zod'
import { type TableFormat, tableFormatTitles } from '../titles.ts'

/** The numbers of `apart` columns are of another kind than their neighbours, and each is written with the decimals that it needs. */
const tableColumn = z.object({
  label: z.string(),
  numeric: z.boolean(),
  better: z.enum(['lower', 'higher']).optional(),
  apart: z.boolean().optional(),
})

/**
 * `low` and `high` are the 95 % interval of the value. `spread` is the standard deviation over seeds, or with `factor` the factor of
 * perplexities (see `seeds.ts`). `count` is of how many results the value is the mean, in tables where this differs. `note` says what sets
 * a number apart from the others. `best` marks the best of those that are compared, and all that do not differ clearly from it: then each
 * is `tied`.
 */
const tableCell = z.object({
  value: z.union([z.string(), z.number(), z.boolean(), z.null()]),
  spread: z.number().nullable().optional(),
  factor: z.boolean().optional(),
  low: z.number().optional(),
  high: z.number().optional(),
  count: z.number().int().positive().optional(),
  note: z.string().optional(),
  best: z.boolean().optional(),
  tied: z.boolean().optional(),
})

/**
 * A comparison, an ablation or the history as rows and columns. `caption` says what is compared, on what, and what its marks mean; `notes`
 * are sentences that belong under the table. `alike` says whether a column or a row has the numbers of one measure.
 */
export const table = z.object({
  columns: z.array(tableColumn),
  rows: z.array(z.array(tableCell)),
  caption: z.string().optional(),
  notes: z.array(z.string()).optional(),
  alike: z.enum(['columns', 'rows']).optional(),
})

export const tableFormat = z.enum(Object.keys(tableFormatTitles) as [TableFormat, ...TableFormat[]])

export type TableCell = z.infer<typeof tableCell>
export type TableRow = TableCell[]
export type Table = z.infer<typeof table>
