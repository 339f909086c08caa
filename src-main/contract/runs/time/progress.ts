import { z } from 'zod'
import { weightText } from '../../titles.ts'
import { fileSizeText } from '../amount-text.ts'

/** Progress of a phase: `done` of `total` in `unit`. `perSecond` is the rate, `secondsLeft` the remaining time at that rate. */
export const progress = z.object({
  phase: z.string(),
  done: z.number(),
  total: z.number(),
  unit: z.string(),
  perSecond: z.number().optional(),
  secondsLeft: z.number().optional(),
})

export type Progress = z.infer<typeof progress>

/** Phases that are named in estimates too. */
export const readingModel = 'Reading the model'
export const writingFile = (type: string): string => `Writing the file in ${weightText(type)}`

/** Writes how much of a phase is done and how much there is: `12` and `30`, or bytes with their units. */
export function progressAmounts({ done, total, unit }: Pick<Progress, 'done' | 'total' | 'unit'>): [string, string] {
  return unit === 'bytes' ? [fileSizeText(done), fileSizeText(total)] : [`${Math.round(done)}`, `${total}`]
}

/** Returns the share of a phase that is done. Null if there is no progress, or if the total is unknown. */
export function shareDone(progress: Pick<Progress, 'done' | 'total'> | null | undefined): number | null {
  return progress && progress.total > 0 ? progress.done / progress.total : null
}
