import { z } from 'zod'
import { moment } from '../identifiers.ts'

export const backup = z.object({ name: z.string(), bytes: z.number().int(), createdAt: moment })

export const historyState = z.object({
  file: z.string(),
  bytes: z.number().int(),
  stepBytes: z.number().int(),
  logBytes: z.number().int(),
  modelBytes: z.number().int(),
  schemaVersion: z.number().int(),
  runs: z.number().int(),
  intact: z.boolean(),
  problems: z.array(z.string()),
  backups: z.array(backup),
})

export type Backup = z.infer<typeof backup>
export type HistoryState = z.infer<typeof historyState>
