import { EspalierError } from '#contract/errors.ts'
import type { Decision } from '#contract/run.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { ModelView } from '#engine/model/view.ts'
import type { Part } from '#engine/model/weights.ts'
import { lastScores, lazyNotes, scoreLazily } from './lazy.ts'
import type { MethodRun } from './method.ts'
import { without } from './plan.ts'
import { ascending } from './selection.ts'
import type { Variant } from './trunk.ts'
import { VariantScorer } from './variants.ts'

/** One removal that could be made: the block it is reported under and the parts that go. */
export interface Candidate {
  readonly block: number
  readonly parts: readonly Part[]
}

export interface GreedyOptions {
  /** Ranks candidates on a quarter of each window and scores only this many in full; 0 scores all. */
  readonly screening: number
  /** Candidates that are scored first, by their scores of earlier rounds; others only while those could still win. 0 scores all. */
  readonly lazy: number
  readonly run: MethodRun
}

/** Losses closer than this, relative to the smaller, are reported as tied: float32 noise could swap them. */
const tieMargin = 1e-6

/** Removes one candidate after the other, each the one whose removal leaves the least perplexity on the windows. */
export class GreedySearch {
  readonly #scorer: VariantScorer
  readonly #screen: VariantScorer | undefined
  readonly #options: GreedyOptions

  constructor(view: ModelView, windows: Windows, options: GreedyOptions) {
    const scorerOptions = { measure: 'loss', signal: options.run.signal } as const
    this.#options = options
    this.#scorer = new VariantScorer(view, windows, scorerOptions)
    if (options.screening > 0) {
      const quarters = windows.map((window) => window.subarray(0, Math.max(2, Math.floor(window.length / 4))))
      this.#screen = new VariantScorer(view, quarters, scorerOptions)
    }
  }

  /**
   * Scores the model without each candidate, besides what `base` lacks, and picks the least perplexity; equal ones go to the lower block.
   * `past` are the decisions so far, by which a lazy search knows what candidates scored last.
   */
  async decide(
    base: Variant,
    candidates: readonly Candidate[],
    round: number,
    kind: Decision['kind'],
    past: readonly Decision[] = [],
  ): Promise<Decision> {
    if (candidates.length === 0)
      throw new EspalierError('infeasible', `Round ${round} has no ${kind} left to remove. Choose a smaller sparsity.`)
    const screened = this.#screen ? await finalistsOf(this.#screen, this.#options.screening, base, candidates) : candidates
    const { lazy } = this.#options
    const last = lastScores(lazy > 0 ? past : [], kind)
    const score = (some: readonly Candidate[]) => scoreWithout(this.#scorer, base, some)
    const { candidates: finalists, losses, trusted } = await scoreLazily(screened, last, lazy, score)
    const best = leastIndex(losses)
    const least = losses[best] ?? Number.NaN
    if (!Number.isFinite(least)) {
      throw new EspalierError(
        'invalid',
        `Round ${round}: every candidate's perplexity is infinite or no number. The model or the calibration data is damaged.`,
      )
    }
    const tied = finalists
      .filter((_, index) => index !== best && (losses[index] as number) - least <= tieMargin * least)
      .map(({ block }) => block)
    return {
      round,
      kind,
      block: (finalists[best] as Candidate).block,
      scores: finalists.map(({ block }, index) => ({ block, perplexity: Math.exp(losses[index] as number) })),
      ...(tied.length > 0 ? { tied } : {}),
      ...(trusted.length > 0 ? { trusted: [...trusted] } : {}),
    }
  }

  /** Reports the passes made and frees what was kept. */
  dispose(): void {
    for (const scorer of [this.#scorer, this.#screen]) {
      if (!scorer) continue
      this.#options.run.count(scorer.passes)
      scorer.dispose()
    }
  }
}

/** The share of the work of scoring all candidates that is left with screening: a quarter for all, and the finalists in full. */
export function scoredShare(screening: number, candidates: number): number {
  return screening === 0 ? 1 : 1 / 4 + Math.min(1, screening / Math.max(1, candidates))
}

function leastIndex(losses: readonly number[]): number {
  let best = 0
  losses.forEach((loss, index) => {
    if (loss < (losses[best] ?? Number.NaN) || Number.isNaN(losses[best])) best = index
  })
  return best
}

function scoreWithout(scorer: VariantScorer, base: Variant, candidates: readonly Candidate[]): Promise<Float64Array> {
  const variants = candidates.map(({ parts }) => without(base, parts))
  return scorer.score(variants, base)
}

async function finalistsOf(
  scorer: VariantScorer,
  keep: number,
  base: Variant,
  candidates: readonly Candidate[],
): Promise<readonly Candidate[]> {
  const losses = await scoreWithout(scorer, base, candidates)
  return ascending(losses)
    .slice(0, keep)
    .sort((a, b) => a - b)
    .map((index) => candidates[index] as Candidate)
}

/** Sentences on a greedy search: what a lazy one scored, and each round in which float32 could have chosen otherwise. */
export function greedyNotes(decisions: readonly Decision[], { lazy }: Pick<GreedyOptions, 'lazy'>): string[] {
  const ties = decisions.flatMap(({ round, block, tied }) =>
    tied ? [`Round ${round}: blocks ${[block, ...tied].join(', ')} scored alike; block ${block} went.`] : [],
  )
  return [...(lazy > 0 && decisions.length > 0 ? lazyNotes(decisions) : []), ...ties]
}
