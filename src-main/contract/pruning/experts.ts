import { z } from 'zod'
import { at } from '../at.ts'
import type { Plan } from './plan.ts'

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

/** Below this many routed tokens, a score is mostly noise. */
const fewTokens = 100

interface JudgedExpert {
  readonly block: number
  readonly expert: number
  readonly tokens: number
  readonly isSuper: boolean
}

/** Returns the experts that a plan keeps, or those that it removes or replaces. Mixtures that keep all experts are skipped. */
function expertsOf({ blocks }: JudgedExperts, plan: Plan, which: 'kept' | 'removed'): JudgedExpert[] {
  return blocks.flatMap(({ block, tokens, superExperts }) => {
    const mlp = plan.blocks[block]?.mlp
    if (!mlp || mlp === 'removed' || !mlp.experts) return []
    const kept = new Set(mlp.experts)
    return [...tokens.keys()]
      .filter((expert) => kept.has(expert) === (which === 'kept'))
      .map((expert) => ({ block, expert, tokens: at(tokens, expert), isSuper: superExperts.includes(expert) }))
  })
}

const rarest = (experts: readonly JudgedExpert[]): JudgedExpert | undefined =>
  experts.reduce<JudgedExpert | undefined>((rarer, one) => (rarer && rarer.tokens <= one.tokens ? rarer : one), undefined)

const nameOf = ({ block, expert }: JudgedExpert): string => `expert ${expert} of block ${block}`

/** Says on how few tokens the rarest experts were judged, and whether a super expert was removed. */
export function expertSentences(judged: JudgedExperts, plan: Plan): string[] {
  const [kept, removed] = [expertsOf(judged, plan, 'kept'), expertsOf(judged, plan, 'removed')]
  const [leastKept, leastRemoved] = [rarest(kept), rarest(removed)]
  if (!leastKept || !leastRemoved) return []
  const words = ({ tokens }: JudgedExpert) => `${tokens.toLocaleString('en')} ${tokens === 1 ? 'token' : 'tokens'}`
  const few = Math.min(leastKept.tokens, leastRemoved.tokens) < fewTokens
  const advice = few ? ` Below about ${fewTokens}, a score is mostly noise: use more calibration text.` : ''
  const superExperts = removed.filter(({ isSuper }) => isSuper)
  return [
    `The rarest kept expert (${nameOf(leastKept).replace('expert ', '')}) was judged on ${words(leastKept)}, and the rarest removed one (${nameOf(leastRemoved).replace('expert ', '')}) on ${words(leastRemoved)}.${advice}`,
    superExperts.length === 0
      ? 'No super expert was removed.'
      : `${superExperts.length === 1 ? 'A super expert was' : 'Super experts were'} removed: ${superExperts.map(nameOf).join(', ')}. Without its largest outputs, a model often breaks.`,
  ]
}

/** Measures how evenly tokens are routed to a mixture's experts: 1 for equal shares, and lower the fewer experts do the work. */
export function balanceOf({ tokens }: Pick<JudgedMixture, 'tokens'>): number {
  const sum = tokens.reduce((total, own) => total + own, 0)
  if (sum === 0 || tokens.length < 2) return 1
  const entropy = tokens.reduce((total, own) => (own === 0 ? total : total - (own / sum) * Math.log(own / sum)), 0)
  return entropy / Math.log(tokens.length)
}

export const scoreTitle = ({ score }: Pick<JudgedExperts, 'score'>): string => expertScores[score]
