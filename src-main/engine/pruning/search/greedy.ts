import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { scoreOf } from '#contract/pruning/candidates.ts'
import type { Decision } from '#contract/runs/run.ts'
import { rowsPerCall } from '#engine/model/forward.ts'
import { attentionOf, isAttention, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import { without } from '#engine/pruning/plan.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { Variant } from './trunk.ts'
import type { Certificate, Ranking, SearchMeans } from './variant-ranking.ts'

type Kind = Decision['kind']
/** The kinds of parts that one round may remove. The best candidate of any of them is removed; on a tie, that of the first kind. */
export type Turn = readonly Kind[]

/** A possible removal: its parts, and the block that it is reported under. */
interface Candidate {
  readonly block: number
  readonly parts: readonly Part[]
}

interface GreedyOptions {
  /**
   * How many candidates are scored first, chosen by their scores of earlier rounds. Others are scored only while they could still win. 0
   * scores all.
   */
  readonly lazy: number
  readonly run: Pick<SearchMeans['run'], 'count'>
}

/** How the rounds of a search are shown and stored. */
interface Rounds {
  readonly phase: string
  readonly step: StepKind
  readonly labelOf: (round: number) => string
  /** What decisions depend on, besides windows and options. */
  readonly on?: object
  readonly lazy: number
}

interface ScoredCandidates {
  readonly finalists: readonly Candidate[]
  readonly losses: readonly number[]
  readonly trusted?: readonly number[]
  /** Indices of finalists whose losses are estimates. */
  readonly estimated?: readonly number[]
  readonly certificate?: Certificate
}

/** Losses closer than this, relative to the smaller one, are reported as tied, because float32 noise could swap them. */
const tieMargin = 1e-6

/**
 * Removes candidates one at a time, always the one whose removal leaves the lowest perplexity on the windows. A search for a smaller count
 * has the same first rounds as one for a larger count.
 */
export async function removeGreedily(
  { run, windows, rank }: SearchMeans,
  dense: Variant,
  turns: readonly Turn[],
  { phase, step, labelOf, on, lazy }: Rounds,
): Promise<{ decisions: Decision[]; removed: Variant }> {
  const search = new GreedySearch(rank(windows), { lazy, run })
  const decisions: Decision[] = []
  let removed = dense
  try {
    for (const [index, kinds] of turns.entries()) {
      const round = index + 1
      run.progress(phase, index, turns.length, 'rounds')
      const asked = { kind: step, label: labelOf(round), on: { ...on, windows, lazy, kinds, earlier: decisions } }
      const decision = await run.step(asked, () => decideAmong(search, removed, kinds, round, decisions))
      run.emit({ type: 'decision', decision })
      decisions.push(decision)
      removed = without(removed, candidateParts(removed, decision.kind, decision.block))
    }
    if (turns.length > 0) run.progress(phase, turns.length, turns.length, 'rounds')
    return { decisions, removed }
  } finally {
    search.dispose()
  }
}

async function decideAmong(
  search: GreedySearch,
  base: Variant,
  kinds: Turn,
  round: number,
  earlier: readonly Decision[],
): Promise<Decision> {
  const decisions: Decision[] = []
  for (const kind of kinds) {
    const candidates = candidatesOf(base, kind)
    if (candidates.length > 0 || kinds.length === 1) decisions.push(await search.decide(base, candidates, { round, kind, earlier }))
  }
  return decisions.reduce((best, next) => (bestScore(next) < bestScore(best) ? next : best))
}

/** The score of the removed candidate, which is exact. */
const bestScore = ({ scores, block }: Decision): number =>
  Math.min(...scores.flatMap((score) => (score.block === block ? scoreOf(score).value : [])))

function candidatesOf(base: Variant, kind: Kind): Candidate[] {
  const blocks = Array.from({ length: base.length / 2 }, (_, block) => ({ block, parts: candidateParts(base, kind, block) }))
  return blocks.filter(({ parts }) => parts.length > 0)
}

/** Returns the parts of a block that a removal of this kind takes. */
function candidateParts(base: Variant, kind: Kind, block: number): Part[] {
  const wanted = (part: Part) => kind === 'block' || (kind === 'attention') === isAttention(part)
  return [attentionOf(block), mlpOf(block)].filter((part) => base[part] === 0 && wanted(part))
}

/** A search that the caller runs round by round. */
export class GreedySearch {
  readonly #ranking: Ranking
  readonly #options: GreedyOptions

  constructor(ranking: Ranking, options: GreedyOptions) {
    this.#options = options
    this.#ranking = ranking
  }

  /**
   * Scores the model without each candidate and without what `base` lacks, and picks the lowest perplexity. Ties go to the lower block. A
   * lazy search takes the last scores of candidates from the decisions in `earlier`, and a certified one the errors of estimates.
   */
  async decide(
    base: Variant,
    candidates: readonly Candidate[],
    { round, kind, earlier }: { round: number; kind: Decision['kind']; earlier: readonly Decision[] },
  ): Promise<Decision> {
    if (candidates.length === 0)
      throw new EspalierError('infeasible', `Round ${round} has no ${kind} left to remove. Choose a smaller sparsity.`)
    const { finalists, losses, trusted = [], estimated = [], certificate } = await this.#score(base, candidates, kind, earlier)
    const isEstimated = new Set(estimated)
    const best = leastIndex(losses.map((loss, index) => (isEstimated.has(index) ? Number.NaN : loss)))
    const least = losses[best] ?? Number.NaN
    if (!Number.isFinite(least)) {
      throw new EspalierError(
        'invalid',
        `Round ${round}: every candidate's perplexity is infinite or not a number. The model or the calibration data is damaged.`,
      )
    }
    const tied = finalists
      .filter((_, index) => index !== best && !isEstimated.has(index) && (losses[index] as number) - least <= tieMargin * least)
      .map(({ block }) => block)
    return {
      round,
      kind,
      block: (finalists[best] as Candidate).block,
      scores: finalists.map(({ block }, index) => ({
        block,
        perplexity: Math.exp(losses[index] as number),
        ...(isEstimated.has(index) ? { estimated: true as const } : {}),
      })),
      ...(tied.length > 0 ? { tied } : {}),
      ...(trusted.length > 0 ? { trusted: [...trusted] } : {}),
      ...(certificate ? { certified: certificate } : {}),
    }
  }

  /**
   * Returns the losses without each candidate. A lazy search gets exact losses. Others get estimates, except for candidates that could have
   * the lowest loss.
   */
  async #score(
    base: Variant,
    candidates: readonly Candidate[],
    kind: Decision['kind'],
    earlier: readonly Decision[],
  ): Promise<ScoredCandidates> {
    const { lazy } = this.#options
    const variantsOf = (some: readonly Candidate[]) => some.map(({ parts }) => without(base, parts))
    if (lazy > 0) {
      const score = (some: readonly Candidate[]) => this.#ranking.scoreExactly(variantsOf(some), base)
      const { candidates: finalists, ...found } = await scoreLazily(candidates, lastScores(earlier, kind), lazy, score)
      return { finalists, ...found }
    }
    const certificates = earlier.flatMap(({ certified }) => certified ?? [])
    const { scores, ...found } = await this.#ranking.score(variantsOf(candidates), 1, { lacking: base, earlier: certificates })
    return { finalists: candidates, losses: [...scores], ...found }
  }

  /** Reports the passes and frees what was kept. */
  dispose(): void {
    this.#options.run.count(this.#ranking.passes)
    this.#ranking.dispose()
  }
}

/** The option for how many candidates a greedy search scores first. */
export const lazyOption = {
  lazy: z.number().int().nonnegative().default(0).meta({
    title: 'Lazy',
    unit: 'candidates',
    help: 'Rescores this many of last round’s best candidates, and others only if their last score could still win. 0 rescores all.',
  }),
}

/**
 * Rows that pass a part together, for estimates. Candidates leave the trunk at different points and are copied there, so a call joins only
 * about a quarter of the rows that it could.
 */
export const joinedRows = rowsPerCall / 4

function leastIndex(losses: readonly number[]): number {
  let best = 0
  losses.forEach((loss, index) => {
    if (loss < (losses[best] ?? Number.NaN) || Number.isNaN(losses[best])) best = index
  })
  return best
}

/** Returns notes on a greedy search: what a lazy one skipped, and each round in which float32 noise could have changed the choice. */
export function greedyNotes(decisions: readonly Decision[], { lazy }: Pick<GreedyOptions, 'lazy'>): string[] {
  const ties = decisions.flatMap(({ round, block, tied }) =>
    tied ? [`Round ${round}: blocks ${[block, ...tied].join(', ')} had equal scores; block ${block} was removed.`] : [],
  )
  return [...(lazy > 0 && decisions.length > 0 ? lazyNotes(decisions) : []), ...ties]
}

interface Named {
  readonly block: number
}

/** The candidates that were scored, in their original order. */
interface LazyScores<Candidate> {
  readonly candidates: readonly Candidate[]
  /** The loss of each of them. */
  readonly losses: readonly number[]
  /** The blocks of the candidates that were not scored, because we trust that they are worse. */
  readonly trusted: readonly number[]
}

/** Returns the last score, a perplexity, of each candidate of a kind, by block. */
export function lastScores(past: readonly Decision[], kind: Decision['kind']): ReadonlyMap<number, number> {
  const decisions = past.filter((decision) => decision.kind === kind)
  return new Map(decisions.flatMap(({ scores }) => scores.map((score) => [score.block, scoreOf(score).value] as const)))
}

/**
 * Scores candidates in order of their last score, best first and `atOnce` at a time. Those without a last score come first. Stops when
 * every remaining last score is worse than the best new one. A removal makes the model worse, so the loss of a candidate hardly ever falls
 * from one round to the next. For the skipped candidates, we trust that it has not.
 */
export async function scoreLazily<Candidate extends Named>(
  candidates: readonly Candidate[],
  last: ReadonlyMap<number, number>,
  atOnce: number,
  score: (some: readonly Candidate[]) => Promise<Float64Array>,
): Promise<LazyScores<Candidate>> {
  const lastOf = ({ block }: Named) => last.get(block) ?? Number.NEGATIVE_INFINITY
  const waiting = candidates.toSorted((a, b) => lastOf(a) - lastOf(b) || a.block - b.block)
  const found = new Map<Candidate, number>()
  const takeBatch = (count: number) => waiting.splice(0, Math.max(count, waiting.findLastIndex((one) => !last.has(one.block)) + 1))
  let best = Number.POSITIVE_INFINITY
  for (let batch = takeBatch(atOnce); batch.length > 0; batch = takeBatch(Math.min(atOnce, countOpen(waiting, lastOf, best)))) {
    const losses = await score(batch)
    for (const [index, one] of batch.entries()) found.set(one, losses[index] as number)
    best = Math.min(best, ...losses.map(Math.exp))
  }
  const scored = candidates.filter((one) => found.has(one))
  return {
    candidates: scored,
    losses: scored.map((one) => found.get(one) as number),
    trusted: candidates.filter((one) => !found.has(one)).map(({ block }) => block),
  }
}

/** Returns how many of the waiting candidates, sorted by last score, could still win. All of them can if the best score is not finite. */
function countOpen<Candidate extends Named>(waiting: readonly Candidate[], lastOf: (one: Named) => number, best: number): number {
  const first = waiting.findIndex((one) => lastOf(one) > best)
  return first < 0 ? waiting.length : first
}

/** Returns a note on how many candidates a lazy search scored and which rounds skipped some. */
export function lazyNotes(decisions: readonly Decision[]): string[] {
  const [scored, skipped] = [decisions.flatMap(({ scores }) => scores).length, decisions.flatMap(({ trusted = [] }) => trusted).length]
  const rounds = decisions.filter(({ trusted = [] }) => trusted.length > 0).map(({ round }) => round)
  if (skipped === 0) return [`The lazy search scored all ${scored} candidates, so every choice is the exact one.`]
  return [
    `The lazy search scored ${scored} of ${scored + skipped} candidates. In ${rounds.length === 1 ? 'round' : 'rounds'} ${rounds.join(', ')} it skipped those whose last score was worse than the winner’s, trusting that a score only gets worse as more is removed.`,
  ]
}
