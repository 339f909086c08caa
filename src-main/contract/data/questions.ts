import { z } from 'zod'

/** A question as a model answered it. `scores` are log-likelihoods of the choices in nats. Too long contexts lose their beginning. */
export const scoredQuestion = z.object({
  context: z.string(),
  choices: z.array(z.string()),
  gold: z.number().int(),
  scores: z.array(z.number()),
  correct: z.boolean(),
  /** Whether the answer was correct by likelihood per character; absent if the task does not use it. */
  correctPerCharacter: z.boolean().optional(),
})

export const scoredTask = z.object({ task: z.string(), questions: z.array(scoredQuestion) })

/**
 * Which questions of a task were answered correctly, one `1` or `0` each in order. Two models' answers can be paired if `hash`, the SHA-256
 * of the questions, is equal.
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
