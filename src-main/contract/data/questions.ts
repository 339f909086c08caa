import { z } from 'zod'

/** One question as a model answered it: log-likelihood of each choice in nats. Long contexts keep their end. */
export const scoredQuestion = z.object({
  context: z.string(),
  choices: z.array(z.string()),
  gold: z.number().int(),
  scores: z.array(z.number()),
  correct: z.boolean(),
  /** By likelihood per character; absent where a task does not count so. */
  correctPerCharacter: z.boolean().optional(),
})

export const scoredTask = z.object({ task: z.string(), questions: z.array(scoredQuestion) })

/**
 * Which questions of a task were answered rightly, `1` or `0` each in order. Answers of two models are pairs where `hash`, the SHA-256 of
 * the questions, is the same.
 */
export const taskOutcomes = z.object({
  task: z.string(),
  hash: z.string(),
  correct: z.string(),
  correctPerCharacter: z.string().optional(),
})

export type ScoredQuestion = z.infer<typeof scoredQuestion>
export type ScoredTask = z.infer<typeof scoredTask>
export type TaskOutcomes = z.infer<typeof taskOutcomes>
