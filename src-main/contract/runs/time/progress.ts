import { z } from 'zod'

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
