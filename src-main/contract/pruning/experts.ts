import { z } from 'zod'

/** What an expert is scored by; the lowest goes first. */
export const expertScores = {
  reap: 'size of an expert’s output, weighted by the router, averaged over the tokens routed to it',
  reap_sum: 'size of an expert’s output, weighted by the router, averaged over all tokens',
  count: 'number of tokens routed to an expert',
} as const

const names = Object.keys(expertScores) as [keyof typeof expertScores, ...(keyof typeof expertScores)[]]
export const expertScore = z.enum(names)

/** The experts of one mixture, by number: calibration tokens routed to each, and its score. `superExperts` have the model's largest outputs. */
const judgedMixture = z.object({
  block: z.number().int().nonnegative(),
  tokens: z.array(z.number().int().nonnegative()),
  scores: z.array(z.number()),
  superExperts: z.array(z.number().int().nonnegative()),
})

/** What the experts of a run were judged by. `tokens` is the length of the calibration text, of which each token met `chosen` experts of a mixture. */
export const judgedExperts = z.object({
  score: expertScore,
  tokens: z.number().int(),
  chosen: z.number().int(),
  blocks: z.array(judgedMixture),
})

export type ExpertScore = z.infer<typeof expertScore>
export type JudgedMixture = z.infer<typeof judgedMixture>
export type JudgedExperts = z.infer<typeof judgedExperts>
