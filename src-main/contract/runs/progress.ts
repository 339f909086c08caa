import { z } from 'zod'

/** How far a phase is: `done` of `total` in `unit`; `perSecond` is the rate and `secondsLeft` what it gives. */
export const progress = z.object({
  phase: z.string(),
  done: z.number(),
  total: z.number(),
  unit: z.string(),
  perSecond: z.number().optional(),
  secondsLeft: z.number().optional(),
})

export type Progress = z.infer<typeof progress>
