import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { ExpertScore, JudgedExperts } from '#contract/pruning/experts.ts'
import type { Rank } from './lowest-ranked-experts.ts'
import type { ExpertStatistics, MixtureStatistics } from './statistics.ts'

/** Returns the score of every expert of a mixture, [E]. 0 if no token reached the expert. */
export function scoresOf({ count, norms }: MixtureStatistics, score: ExpertScore, tokens: number): number[] {
  if (score === 'count') return [...count]
  return norms.map((sum, expert) => sum / (score === 'reap' ? Math.max(1, at(count, expert)) : tokens))
}

/** Returns the scores and token counts of all experts, and which of them are super experts. */
export function judgeExperts({ tokens, blocks }: ExpertStatistics, score: ExpertScore, chosen: number, depth: number): JudgedExperts {
  const isSuper = superExperts(blocks, depth)
  return {
    score,
    tokens,
    chosen,
    blocks: blocks.map((own) => ({
      block: own.block,
      tokens: [...own.count],
      scores: scoresOf(own, score, tokens),
      superExperts: [...own.peaks.keys()].filter((expert) => isSuper(own.block, at(own.peaks, expert))),
    })),
  }
}

/** Returns the rank of each expert by its score. If super experts are kept, they rank last. */
export function rankBy({ blocks }: JudgedExperts, superExperts: 'kept' | 'scored'): (block: number, expert: number) => Rank {
  const found = new Map(blocks.map((own) => [own.block, own]))
  return (block, expert) => {
    const own = found.get(block)
    if (!own) throw new EspalierError('internal', `Block ${block} was not scored.`)
    return { score: at(own.scores, expert), last: superExperts === 'kept' && own.superExperts.includes(expert) }
  }
}

/**
 * Returns a test for super experts (arXiv 2507.23279). They lie in the first three quarters of the blocks. Their largest output is above
 * the 99.5 % quantile over all experts, and above a tenth of the maximum. Without them, models lose their attention sinks.
 */
function superExperts(blocks: readonly MixtureStatistics[], depth: number): (block: number, peak: number) => boolean {
  const peaks = blocks.flatMap(({ peaks }) => peaks).sort((a, b) => a - b)
  if (peaks.length === 0) return () => false
  const position = 0.995 * (peaks.length - 1)
  const [low, high] = [at(peaks, Math.floor(position)), at(peaks, Math.ceil(position))]
  const quantile = low + (high - low) * (position - Math.floor(position))
  return (block, peak) => block < 0.75 * depth && peak > quantile && peak > at(peaks, peaks.length - 1) / 10
}
