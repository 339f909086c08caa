import { z } from 'zod'
import { usedData } from '../data/used-data.ts'
import { trainedWeights } from '../pruning/recovery.ts'
import { repairKind } from '../pruning/repair.ts'
import { weightType } from '../runs/run-request.ts'

const texts = z.array(usedData.pick({ source: true, windows: true, sequenceLength: true, beginToken: true }))

/** What the model card of a saved model says about its run. `before` is the dense model's value on the same data, if measured. */
export const exportedRun = z.object({
  seed: z.number().int(),
  /** The dense model's name on the hub or in the library. */
  baseModel: z.string(),
  calibration: texts,
  /** Null if the run was not repaired, or not recovered. */
  repair: z.object({ kind: repairKind, texts }).nullable(),
  recovery: z.object({ tokens: z.number().int(), trains: trainedWeights, texts }).nullable(),
  /** The weight type that `measures` are of; null: the weights as computed. */
  weights: weightType.nullable(),
  /** Perplexities, and bits per byte where the bytes of the text are known. */
  measures: z.array(z.object({ name: z.string(), dataset: z.string(), before: z.number().nullable(), after: z.number() })),
})

export type ExportedRun = z.infer<typeof exportedRun>
export type ExportedTexts = z.infer<typeof texts>
