import { z } from 'zod'
import { scoredQuestion } from '../data/questions.ts'
import { usedData } from '../data/used-data.ts'
import { id } from '../identifiers.ts'
import { judgedExperts } from '../pruning/experts.ts'
import { plan } from '../pruning/plan.ts'
import { parameterValue, runEntry } from '../runs/runs.ts'

const estimate = z.object({ value: z.number(), error: z.number().nullable() })

/** Two models compared on the same questions of a task, by one measure (see `paired-questions.ts`). */
const pairedTask = z.object({
  task: z.string(),
  measure: z.enum(['accuracy', 'accuracy per character']),
  questions: z.number().int(),
  first: estimate,
  second: estimate,
  gained: z.number().int(),
  lost: z.number().int(),
  probability: z.number(),
})

/** A question that only one of two models answered correctly, with each model's scores for the choices. */
const flippedQuestion = z.object({
  task: z.string(),
  number: z.number().int(),
  direction: z.enum(['gained', 'lost']),
  first: scoredQuestion,
  second: scoredQuestion,
})

export const questionComparison = z.object({
  tasks: z.array(pairedTask.extend({ interval: z.object({ low: z.number(), high: z.number() }) })),
  total: z.number().int(),
  flipped: z.array(flippedQuestion),
})

/** A run with what a comparison needs. The arithmetic over several runs is beside this file, shared by screens and exports. */
const comparedRun = runEntry.extend({
  /** The name of the run's weight file, without its seed: `dense Q3_K_M`, `2SSP 25 % in Q8_0`. */
  file: z.string(),
  parameters: z.record(z.string(), parameterValue),
  plan: plan.nullable(),
  /** How experts were judged; null for methods that do not remove experts. */
  experts: judgedExperts.nullable(),
  blocks: z.number().int().nullable(),
  intermediate: z.number().int().nullable(),
  removalOrder: z.array(z.object({ kind: z.enum(['attention', 'mlp', 'block']), block: z.number().int() })),
  answers: z.array(z.object({ prompt: z.string(), text: z.string() })),
  calibration: usedData.nullable(),
  evaluation: z.array(usedData),
  /** The run against the baseline, on the questions that both answered. */
  paired: z.array(pairedTask),
})

export const comparison = z.object({ baseline: id.nullable(), runs: z.array(comparedRun) })

export type FlippedQuestion = z.infer<typeof flippedQuestion>
export type QuestionComparison = z.infer<typeof questionComparison>
export type ComparedRun = z.infer<typeof comparedRun>
export type Comparison = z.infer<typeof comparison>
