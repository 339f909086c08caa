import { z } from 'zod'
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

/** How much of a phase is done and how much there is: `12` and `30`, or bytes with their units. */
export function progressAmounts({ done, total, unit }: Pick<Progress, 'done' | 'total' | 'unit'>): [string, string] {
  return unit === 'bytes' ? [fileSizeText(done), fileSizeText(total)] : [`${Math.round(done)}`, `${total}`]
}

/** The share of a phase that is done; null if nothing is under way, or no end is known. */
export function shareDone(progress: Pick<Progress, 'done' | 'total'> | null | undefined): number | null {
  return progress && progress.total > 0 ? progress.done / progress.total : null
}
