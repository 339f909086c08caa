import { EspalierError } from '#contract/errors.ts'
import type { Decision } from '#contract/run.ts'
import type { Part } from '#engine/model/weights.ts'
import { without } from './plan.ts'
import type { Variant } from './trunk.ts'
import type { VariantScorer } from './variants.ts'

/** One removal that could be made: the block it is reported under and the parts that go. */
export interface Candidate {
  readonly block: number
  readonly parts: readonly Part[]
}

/** Losses closer than this, relative to the smaller, are reported as tied: float32 noise could swap them. */
const tieMargin = 1e-6

/** Ranks candidates on the first part of the windows and scores only the best few in full. */
export interface Screening {
  readonly scorer: VariantScorer
  readonly keep: number
}

/** Scores the model without each candidate, besides what `base` lacks, and picks the least perplexity; equal ones go to the lower block. */
export async function decideRemoval(scorer: VariantScorer, base: Variant, candidates: readonly Candidate[], round: number, kind: Decision['kind'], screening?: Screening): Promise<Decision> {
  if (candidates.length === 0) throw new EspalierError('infeasible', `Round ${round} has no ${kind} left to remove. Choose a smaller sparsity.`)
  const finalists = screening ? await screen(screening, base, candidates) : candidates
  const losses = await scorer.score(finalists.map((candidate) => without(base, candidate.parts)), base)
  let best = 0
  losses.forEach((loss, index) => {
    if (loss < (losses[best] ?? Number.NaN) || Number.isNaN(losses[best])) best = index
  })
  const least = losses[best] ?? Number.NaN
  if (!Number.isFinite(least)) {
    throw new EspalierError('invalid', `Round ${round}: every candidate's perplexity is infinite or no number. The model or the calibration data is damaged.`)
  }
  const tied = finalists.filter((_, index) => index !== best && (losses[index] ?? 0) - least <= tieMargin * least).map((candidate) => candidate.block)
  return {
    round,
    kind,
    block: (finalists[best] as Candidate).block,
    scores: finalists.map((candidate, index) => ({ block: candidate.block, perplexity: Math.exp(losses[index] ?? Number.NaN) })),
    ...(tied.length > 0 ? { tied } : {}),
  }
}

async function screen({ scorer, keep }: Screening, base: Variant, candidates: readonly Candidate[]): Promise<readonly Candidate[]> {
  const losses = await scorer.score(candidates.map((candidate) => without(base, candidate.parts)), base)
  const order = [...candidates.keys()].sort((a, b) => (losses[a] ?? 0) - (losses[b] ?? 0) || a - b)
  return order.slice(0, keep).sort((a, b) => a - b).map((index) => candidates[index] as Candidate)
}
