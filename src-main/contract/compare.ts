import { z } from 'zod'
import { id } from './identifiers.ts'
import { plan } from './plan.ts'
import { parameterValue, runEntry } from './runs.ts'
import { usedData } from './used-data.ts'

/** One run as the comparison needs it; the arithmetic over several is in `comparison.ts`, the same for screens and exports. */
export const comparedRun = runEntry.extend({
  parameters: z.record(z.string(), parameterValue),
  plan: plan.nullable(),
  blocks: z.number().int().nullable(),
  intermediate: z.number().int().nullable(),
  removalOrder: z.array(z.object({ kind: z.enum(['attention', 'mlp', 'block']), block: z.number().int() })),
  answers: z.array(z.object({ prompt: z.string(), text: z.string() })),
  calibration: usedData.nullable(),
  evaluation: z.array(usedData),
})

export const comparison = z.object({ baseline: id.nullable(), runs: z.array(comparedRun) })

export type ComparedRun = z.infer<typeof comparedRun>
export type Comparison = z.infer<typeof comparison>
