import { z } from 'zod'
import { usedData } from '../data/used-data.ts'

/** What the model card of a saved model says about its run. `before` is the dense model's perplexity on the same data, if measured. */
export const exportedRun = z.object({
  seed: z.number().int(),
  /** The dense model's name on the hub or in the library. */
  baseModel: z.string(),
  calibration: z.array(usedData.pick({ source: true, windows: true, sequenceLength: true })),
  perplexities: z.array(z.object({ dataset: z.string(), before: z.number().nullable(), after: z.number() })),
})

export type ExportedRun = z.infer<typeof exportedRun>
