import { z } from 'zod'
import { id, moment, name } from '../identifiers.ts'

/** A judge's verdict on two anonymous answers to one prompt. */
export const judgement = z.enum(['left', 'right', 'tie', 'both bad'])

/** A pair to judge: a prompt and two columns of the transcript, on randomly drawn sides. */
const judgedPair = z.object({ prompt: z.number().int(), left: z.number().int(), right: z.number().int() })

export const judgingEntry = z.object({
  id,
  title: name,
  transcript: id,
  pairs: z.number().int(),
  votes: z.number().int(),
  createdAt: moment,
})

/** The state for a judge. It does not reveal which model gave an answer. `next` is null when all pairs have a vote. */
export const judgingState = judgingEntry.extend({
  next: z.object({ pair: z.number().int(), prompt: z.string(), left: z.string(), right: z.string() }).nullable(),
  /** The pair that was voted on last, for undo. */
  last: z.number().int().nullable(),
})

const interval = z.object({ low: z.number(), high: z.number() })

/** A model's result. Strengths and win rates are those of `bradley-terry.ts`. */
const standing = z.object({
  name: z.string(),
  wins: z.number().int(),
  losses: z.number().int(),
  ties: z.number().int(),
  bothBad: z.number().int(),
  strength: z.number(),
  interval,
  winRate: z.number(),
  winInterval: interval,
})

/** `score` is the mean of a model's points: 1 for a win, 0.5 for a tie or two bad answers. */
const points = z.object({ name: z.string(), pairs: z.number().int(), score: z.number() })

const judgingVote = z.object({
  pair: z.number().int(),
  prompt: z.string(),
  tags: z.array(z.string()),
  left: z.string(),
  right: z.string(),
  vote: judgement,
  at: moment,
})

/** Standings over all pairs, by prompt and by tag, and every vote with the names of its sides. */
export const judgingResult = judgingEntry.extend({
  standings: z.array(standing),
  byPrompt: z.array(z.object({ prompt: z.string(), points: z.array(points) })),
  byTag: z.array(z.object({ tag: z.string(), points: z.array(points) })),
  list: z.array(judgingVote),
})

export type Judgement = z.infer<typeof judgement>
export type JudgedSides = z.infer<typeof judgedPair>
export type JudgingEntry = z.infer<typeof judgingEntry>
export type JudgingState = z.infer<typeof judgingState>
export type JudgingResult = z.infer<typeof judgingResult>
