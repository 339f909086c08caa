import { z } from 'zod'
import { id } from '../identifiers.ts'
import { transcriptAnswer } from '../playground/generation.ts'
import { studyDocument } from '../runs/run.ts'
import { divergence, inspectedRun } from './divergence.ts'

/**
 * One column of generated answers. `equal` is the share of tokens that match the first column, `looping` the share of answers that end in
 * a loop, `distinct` the share of distinct trigrams, and `ending` the mean length of the repeated ending. Documents of earlier versions
 * lack the last three.
 */
const answeringColumn = z.object({
  /** Null for the dense model. */
  run: inspectedRun.nullable(),
  answers: z.number().int(),
  tokens: z.number(),
  equal: z.number().nullable(),
  repetition: z.number(),
  looping: z.number().optional(),
  distinct: z.number().optional(),
  ending: z.number().optional(),
})

/** The result of a run that inspects others: divergences, or a transcript with all answers. */
export const inspected = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('divergence'), divergence }),
  z.object({ kind: z.literal('generation'), transcript: id, columns: z.array(answeringColumn) }),
])

const common = studyDocument.omit({ study: true }).shape

/** The result of an inspection as the compute process returns it. The main process turns answers into a transcript. */
export const inspectionDocument = z.object({
  ...common,
  inspected: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('divergence'), divergence }),
    z.object({
      kind: z.literal('generation'),
      columns: z.array(answeringColumn),
      answers: z.array(transcriptAnswer),
    }),
  ]),
})

export type AnsweringColumn = z.infer<typeof answeringColumn>
export type Inspected = z.infer<typeof inspected>
export type InspectionDocument = z.infer<typeof inspectionDocument>
