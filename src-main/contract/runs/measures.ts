import { z } from 'zod'

/**
 * One result. `name` is the measure's id (`perplexity`, `accuracy`, `parameters`, `tokens per second`, …), `dataset` the data set or task
 * (empty if there is none), `error` one standard error.
 */
export const measure = z.object({
  name: z.string(),
  dataset: z.string(),
  value: z.number(),
  unit: z.string(),
  error: z.number().optional(),
})

export type Measure = z.infer<typeof measure>
