import { z } from 'zod'
import { type TableFormat, tableFormatTitles } from '../titles.ts'

const tableColumn = z.object({ label: z.string(), numeric: z.boolean(), better: z.enum(['lower', 'higher']).optional() })

/** `spread` is the standard deviation over seeds. `note` follows a number that does not compete with the others. */
const tableCell = z.object({
  value: z.union([z.string(), z.number(), z.boolean(), z.null()]),
  spread: z.number().nullable().optional(),
  note: z.string().optional(),
  best: z.boolean().optional(),
})

/** A comparison, an ablation or the history as rows and columns. */
export const table = z.object({ columns: z.array(tableColumn), rows: z.array(z.array(tableCell)) })

export const tableFormat = z.enum(Object.keys(tableFormatTitles) as [TableFormat, ...TableFormat[]])

export type TableCell = z.infer<typeof tableCell>
export type TableRow = TableCell[]
export type Table = z.infer<typeof table>
