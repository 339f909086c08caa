import { z } from 'zod'

/** How an expert is scored. The expert with the lowest score is removed first. */
export const expertScores = {
  reap: 'size of an expert’s output, weighted by the router, averaged over the tokens routed to it',
  reap_sum: 'size of an expert’s output, weighted by the router, averaged over all tokens',
  count: 'number of tokens routed to an expert',
} as const

const names = Object.keys(expertScores) as [keyof typeof expertScores, ...(keyof typeof expertScores)[]]
export const expertScore = z.enum(names)

/** For each expert of one mixture, the calibration tokens routed to it and its score. `superExperts` have the model's largest outputs. */
const judgedMixture = z.object({
  block: z.number().int().nonnegative(),
  tokens: z.array(z.number().int().nonnegative()),
  scores: z.array(z.number()),
  superExperts: z.array(z.number().int().nonnegative()),
})

/**
 * How the experts of a run were judged. `tokens` is the length of the calibration text. The router sends each token to `chosen` experts of
 * each mixture.
 */
export const judgedExperts = z.object({
  score: expertScore,
  tokens: z.number().int(),
  chosen: z.number().int(),
  blocks: z.array(judgedMixture),
})

export type ExpertScore = z.infer<typeof expertScore>
export type JudgedMixture = z.infer<typeof judgedMixture>
export type JudgedExperts = z.infer<typeof judgedExperts>
