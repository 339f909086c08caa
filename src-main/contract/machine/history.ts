import { z } from 'zod'
import { moment } from '../identifiers.ts'

export const backup = z.object({ name: z.string(), bytes: z.number().int(), createdAt: moment })

/** Why the history cannot be written at the moment. The program waits and continues by itself. Sizes are known for a full disk only. */
export const obstacle = z.object({
  kind: z.enum(['locked', 'full', 'failing']),
  message: z.string(),
  since: moment,
  neededBytes: z.number().int().nullable(),
  freeBytes: z.number().int().nullable(),
})

/** Bytes as `0.4 MB`. */
export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`

/** Stored values that this history does not know, and how many other histories store values in the same folder. */
const unknownFiles = z.object({ files: z.number().int(), bytes: z.number().int(), others: z.number().int() })

export const historyState = z.object({
  file: z.string(),
  bytes: z.number().int(),
  stepBytes: z.number().int(),
  /** Never deleted by the program, because they may belong to another history or to a later state of this one. */
  unknown: unknownFiles,
  logBytes: z.number().int(),
  modelBytes: z.number().int(),
  schemaVersion: z.number().int(),
  runs: z.number().int(),
  intact: z.boolean(),
  problems: z.array(z.string()),
  backups: z.array(backup),
})

export type Obstacle = z.infer<typeof obstacle>
export type Backup = z.infer<typeof backup>
export type UnknownFiles = z.infer<typeof unknownFiles>
export type HistoryState = z.infer<typeof historyState>
