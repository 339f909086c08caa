import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { isAttention } from '#engine/model/weights/weights.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { Products } from '#engine/tensor/products.ts'
import {
  addPasses,
  commonParts,
  type MethodPhase,
  type MethodRun,
  type PassCount,
  sharedPasses,
  stackPasses,
  timesPasses,
} from '../method.ts'
import { ascending, bySmallest } from '../selection.ts'
import type { Variant } from './trunk.ts'
import { type Recall, RecallingScorer, type ScorerOptions, VariantScorer } from './variants.ts'

/**
 * Scores closer than this, relative to the smaller one, are decided in float32. Products of split operands are within 5e-6 of the largest
 * entry.
 */
const splitMargin = 2e-5

type RankingOptions = Omit<ScorerOptions, 'products'> | { readonly recall: Recall; readonly signal: AbortSignal }
type Scorer = VariantScorer | RecallingScorer

/** The members of `VariantRanking` that searches use. */
export type Ranking = Pick<VariantRanking, 'score' | 'scoreExactly' | 'passes' | 'dispose'>

/**
 * Scores variants as precisely as a choice needs. If the model has separate products for ranking, a first pass ranks all variants. Those
 * that could be among the best are rescored, and those that this does not separate are scored a third time.
 */
export class VariantRanking {
  readonly #scorers = new Map<Products, Scorer>()
  readonly #view: ModelView
  readonly #scorerFor: (products: Products) => Scorer

  /** With `recall`, scores are divergences, and remembered ones are not computed again. Otherwise they are losses. */
  constructor(view: ModelView, windows: Windows, options: RankingOptions) {
    this.#view = view
    this.#scorerFor = (products) =>
      'recall' in options
        ? new RecallingScorer(view, windows, options.recall, products, options.signal)
        : new VariantScorer(view, windows, { ...options, products })
  }

  #scorer(products: Products): Scorer {
    const scorer = this.#scorers.get(products) ?? this.#scorerFor(products)
    this.#scorers.set(products, scorer)
    return scorer
  }

  /** Returns the scores of variants, computed with the products that decide. */
  scoreExactly(variants: readonly Variant[], lacking?: Variant): Promise<Float64Array> {
    return this.#scorer(this.#view.model.products.deciding).score(variants, lacking)
  }

  /**
   * Returns the scores of variants, exact for the `survivors` smallest. `lacking` is what all variants lack. `earlier` are the certificates
   * of earlier rounds of this search.
   */
  async score(
    variants: readonly Variant[],
    survivors: number,
    { lacking, earlier = [] }: { lacking?: Variant; earlier?: readonly Certificate[] } = {},
  ): Promise<Pick<CertifiedScores, 'scores' | 'survivors'> & Partial<CertifiedScores>> {
    const { ranking, rescoring, deciding } = this.#view.model.products
    if (ranking === deciding) {
      const scores = await this.scoreExactly(variants, lacking)
      return { scores, survivors: ascending(scores).slice(0, survivors) }
    }
    const look = (products: Products) => (looks: readonly Look[]) => lookBy(this.#scorer(products), variants, looks, lacking)
    const shares = sharesOf(this.#scorer(ranking))
    const looks = variants.flatMap((_, place) => shares.map((_, window) => ({ place, window })))
    const estimates = await look(ranking)(looks)
    const scores = variants.map((_, place) => estimates.slice(place * shares.length, (place + 1) * shares.length))
    const found = await certify({ scores, shares }, survivors, earlier, look(rescoring))
    return rescoring === deciding ? found : this.#settle(found, variants, lacking)
  }

  /** Scores the candidates that rescoring does not separate with the deciding products. */
  async #settle(found: CertifiedScores, variants: readonly Variant[], lacking: Variant | undefined): Promise<CertifiedScores> {
    const isEstimated = new Set(found.estimated)
    const places = [...variants.keys()].filter((place) => !isEstimated.has(place))
    const scores = await settle(found.scores, places, found.survivors.length, splitMargin, (close) =>
      this.scoreExactly(
        close.map((place) => variants[place] as Variant),
        lacking,
      ),
    )
    const eligible = new Set([...places, ...found.survivors])
    const survivors = ascending(scores).filter((place) => eligible.has(place))
    return { ...found, scores, survivors: survivors.slice(0, found.survivors.length) }
  }

  /** Passes made so far, by all scorers. */
  get passes(): PassCount {
    return addPasses(...[...this.#scorers.values()].map(({ passes }) => passes))
  }

  dispose(): void {
    for (const scorer of this.#scorers.values()) scorer.dispose()
    this.#scorers.clear()
  }
}

/** Returns the share of each window in a score if windows can be rescored one by one. Otherwise all windows count as one. */
const sharesOf = (scorer: Scorer): readonly number[] => ('shares' in scorer ? scorer.shares : [1])

function lookBy(scorer: Scorer, variants: readonly Variant[], looks: readonly Look[], lacking: Variant | undefined): Promise<Float64Array> {
  const pairs = looks.map(({ place, window }) => ({ variant: variants[place] as Variant, window }))
  if ('look' in scorer) return scorer.look(pairs)
  return scorer.score(
    pairs.map(({ variant }) => variant),
    lacking,
  )
}

/** The bound on errors is the largest observed error times this factor. */
const safetyFactor = 3
/** An estimate counts as at least this share of the middle one when its error is related to it. */
const leastSize = 0.01
/** The bound is trusted once this many errors are known. Until then, at least `fewestRescored` candidates are scored again. */
const fewestErrors = 8
const fewestRescored = 4

/** How a choice among estimated scores was certified. */
export interface Certificate {
  /** How many candidates were scored again. */
  readonly rescored: number
  /** The largest distance of an error from the mean error of its window in this round, relative to the estimate. */
  readonly error: number
}

/** A candidate and a window, both by index. */
export interface Look {
  readonly place: number
  readonly window: number
}

/** Estimated scores of candidates, window by window, and the weight of each window in a score. */
export interface Estimates {
  readonly scores: readonly Float64Array[]
  readonly shares: readonly number[]
}

export interface CertifiedScores {
  /**
   * Exact on the windows where a candidate was scored again. On other windows, the estimate corrected by the common error of the window's
   * estimates.
   */
  readonly scores: Float64Array
  /** Indices of the candidates whose scores are estimates on some windows. */
  readonly estimated: readonly number[]
  /** Indices of the smallest scores, smallest first. Exact scores have the same order unless errors exceed their bound. */
  readonly survivors: readonly number[]
  readonly certificate: Certificate
}

/**
 * Rescores every candidate that could be among the `survivors` smallest, on as many windows as it takes to tell. An estimate has the common
 * error of its window, which changes no order, and an error of its own, which grows with the score. Relative to it, it is bounded by the
 * largest one that this round or `earlier` ones showed on a window, times a safety factor. The best estimates and the runner-up are always
 * rescored on a window, so every round shows some errors.
 *
 * Errors of a candidate on several windows are added as squares. On SmolLM2-135M, divergences of 34 removals on 8 to 16 windows of 512
 * tokens had errors with a standard deviation of 0.3 % and a maximum of 1.3 %. Means over the windows spread up to 1.8 times as far as
 * independent errors would, which the safety factor covers.
 */
export async function certify(
  estimates: Estimates,
  survivors: number,
  earlier: readonly Certificate[],
  rescore: (looks: readonly Look[]) => Promise<Float64Array>,
): Promise<CertifiedScores> {
  const comparison = new Comparison(estimates)
  const known = earlier.reduce((sum, { rescored }) => sum + rescored, 0)
  const shown = Math.max(0, ...earlier.map(({ error }) => error))
  let wanted = comparison.begin(Math.max(survivors + 1, known < fewestErrors ? fewestRescored : 0))
  while (wanted.length > 0) {
    const looks = wanted.flatMap((place) => comparison.next(place))
    comparison.put(looks, await rescore(looks))
    wanted = comparison.undecided(survivors, safetyFactor * Math.max(comparison.error, shown))
  }
  return { ...comparison.result(survivors), certificate: { rescored: comparison.rescored, error: comparison.error } }
}

/** Scores of candidates while they are rescored window by window. */
class Comparison {
  /** The largest distance of an error from the mean error of its window, relative to the estimate. */
  error = 0
  readonly #estimates: Estimates
  /** Exact scores on the first windows, candidate by candidate. */
  readonly #exact: readonly number[][]
  /** The common error of each window's estimates, to be added to them. For a window without exact scores, the mean of the others. */
  readonly #offsets: number[]
  /** The middle of the sizes of all estimates on each window. */
  readonly #medians: readonly number[]

  constructor(estimates: Estimates) {
    this.#estimates = estimates
    this.#exact = estimates.scores.map(() => [])
    this.#offsets = estimates.shares.map(() => 0)
    this.#medians = estimates.shares.map((_, window) => {
      const sizes = estimates.scores.flatMap((own) => (Number.isFinite(own[window]) ? [Math.abs(own[window] as number)] : []))
      return sizes.sort((a, b) => a - b)[sizes.length >> 1] || 1
    })
  }

  get rescored(): number {
    return this.#exact.filter(({ length }) => length > 0).length
  }

  /** Returns the candidates with the best estimates, and those whose estimates are not finite, which allow no bound. */
  begin(count: number): number[] {
    const scores = this.#scores
    const lost = [...scores.keys()].filter((place) => !Number.isFinite(scores[place]))
    return [...new Set([...ascending(scores).slice(0, count), ...lost])]
  }

  /** Returns where a candidate is rescored next: on one window, then each time until twice as many windows are exact. */
  next(place: number): Look[] {
    const first = this.#exactOf(place).length
    const last = Math.min(this.#offsets.length, Math.max(1, 2 * first))
    return Array.from({ length: last - first }, (_, i) => ({ place, window: first + i }))
  }

  put(looks: readonly Look[], scores: Float64Array): void {
    looks.forEach(({ place }, i) => {
      this.#exactOf(place).push(scores[i] as number)
    })
    this.error = 0
    const seen: number[] = []
    for (const window of this.#offsets.keys()) {
      const errors = this.#errorsOn(window)
      const mean = meanOf(errors.length > 0 ? errors.map(({ error }) => error) : seen)
      if (errors.length > 0) seen.push(mean)
      this.#offsets[window] = mean
      for (const { error, scale } of errors) if (error !== mean) this.error = Math.max(this.error, Math.abs(error - mean) / scale)
    }
  }

  /** The finite errors of estimates on a window, and the sizes of the estimates. */
  #errorsOn(window: number): { error: number; scale: number }[] {
    return this.#exact
      .flatMap((own, place) => {
        const estimate = this.#estimateOf(place, window)
        return own.length > window ? [{ error: (own[window] as number) - estimate, scale: this.#sizeOf(place, window) }] : []
      })
      .filter(({ error }) => Number.isFinite(error))
  }

  /**
   * Returns the candidates that may or may not be among the `survivors` smallest, given a bound on the relative error on a window, and that
   * have windows left to rescore.
   */
  undecided(survivors: number, bound: number): number[] {
    const scores = this.#scores
    const order = ascending(scores)
    const radii = this.#exact.map(({ length }, place) => bound * this.#sizeBehind(place, length))
    const found = new Set<number>()
    for (const [rank, better] of order.slice(0, survivors).entries()) {
      const limit = (scores[better] as number) + (radii[better] as number)
      const rivals = order.slice(rank + 1).filter((place) => !((scores[place] as number) - (radii[place] as number) > limit))
      if (rivals.length > 0) for (const place of [better, ...rivals]) found.add(place)
    }
    return [...found].filter((place) => this.#exactOf(place).length < this.#offsets.length)
  }

  /** The size of an estimate, by which its error grows. Rounding leaves an error where an estimate is near 0. */
  #sizeOf(place: number, window: number): number {
    return Math.max(Math.abs(this.#estimateOf(place, window)), leastSize * at(this.#medians, window))
  }

  /** The size of a candidate's estimates on the windows from `first` on, by which errors grow. */
  #sizeBehind(place: number, first: number): number {
    const sizes = this.#estimates.shares.map((share, window) => (window < first ? 0 : share * this.#sizeOf(place, window)))
    return Math.hypot(...sizes)
  }

  result(survivors: number): Omit<CertifiedScores, 'certificate'> {
    const scores = this.#scores
    const estimated = [...scores.keys()].filter((place) => this.#exactOf(place).length < this.#offsets.length)
    return { scores, estimated, survivors: ascending(scores).slice(0, survivors) }
  }

  get #scores(): Float64Array {
    const { shares } = this.#estimates
    return Float64Array.from(this.#exact, (own, place) =>
      shares.reduce((sum, share, window) => sum + share * (own[window] ?? this.#estimateOf(place, window) + at(this.#offsets, window)), 0),
    )
  }

  #exactOf = (place: number): number[] => this.#exact[place] as number[]

  #estimateOf = (place: number, window: number): number => this.#estimates.scores[place]?.[window] ?? Number.NaN
}

/**
 * Rescores, more exactly, the candidates of `places` whose order among the `survivors` smallest is uncertain: those with scores closer than
 * `margin`, relative to the smaller one. Returns the scores with the new ones inserted.
 */
export async function settle(
  scores: Float64Array,
  places: readonly number[],
  survivors: number,
  margin: number,
  rescore: (places: readonly number[]) => Promise<Float64Array>,
): Promise<Float64Array> {
  const order = [...places].sort(bySmallest(scores))
  const isClose = (rank: number) => {
    const [first, second] = [scores[order[rank] as number] as number, scores[order[rank + 1] as number] as number]
    return !(second - first > margin * Math.abs(first))
  }
  const close = new Set<number>()
  for (let rank = 0; rank + 1 < order.length; rank++) {
    // Continue beyond the last survivor while each score is close to the next.
    if (rank >= survivors && !close.has(order[rank] as number)) break
    if (isClose(rank)) close.add(order[rank] as number).add(order[rank + 1] as number)
  }
  if (close.size === 0) return scores
  const rescored = [...close]
  const exact = await rescore(rescored)
  return scores.map((score, place) => (close.has(place) ? (exact[rescored.indexOf(place)] as number) : score))
}

/** What a search needs besides its options. */
export interface SearchMeans {
  readonly run: Omit<MethodRun, 'tensorStep'>
  readonly windows: Windows
  rank(windows: Windows): Ranking
}

/** Tokens of a window that is only counted. This many are enough for searches that use a fraction of a window. */
const countedTokens = 64

/**
 * Runs a search with invented scores and counts the passes that real scores would take. Nothing is known of the model, so each part gets a
 * random weight, and the score of a variant is the sum of the weights that it lacks.
 */
export async function countSearch(
  phase: string,
  spec: DecoderSpec,
  windows: number,
  search: (means: SearchMeans) => Promise<unknown>,
): Promise<Pick<MethodPhase, 'phase' | 'passes' | 'choosing'>> {
  const counter = new PassCounter(spec)
  await search({
    windows: Array.from({ length: windows }, (_, index) => new Int32Array(countedTokens).fill(index)),
    rank: (batch) => counter.ranking(batch),
    run: {
      seed: 0,
      signal: new AbortController().signal,
      step: async (_, compute) => compute(),
      progress: () => undefined,
      emit: () => undefined,
      count: () => undefined,
    },
  })
  return { phase, passes: counter.passes, choosing: counter.choosing }
}

class PassCounter {
  passes: PassCount = { attention: 0, mlp: 0, head: 0 }
  readonly #spec: DecoderSpec
  readonly #weights: readonly number[]
  /** Variants scored on each window, by its id. */
  readonly #known = new Map<number, Set<string>>()
  /** How many scores rank, and how many of them are scored again for a choice. */
  readonly #scored = { ranked: 0, again: 0 }

  constructor(spec: DecoderSpec) {
    const random = new PythonRandom(0)
    this.#spec = spec
    this.#weights = Array.from({ length: 2 * spec.blocks.length }, () => random.random())
  }

  get choosing(): NonNullable<MethodPhase['choosing']> {
    const { ranked, again } = this.#scored
    return ranked === 0 ? 'exactly' : { again: again / ranked }
  }

  /**
   * Returns a ranking that counts. Calls with `lacking` use a trunk, as a greedy search does. Calls without it remember scores by window.
   */
  ranking(windows: Windows): Ranking {
    const size = windows.reduce((sum, { length }) => sum + length, 0) / countedTokens
    const trunk = new CountedTrunk()
    const scoreExactly = async (variants: readonly Variant[], lacking?: Variant) => {
      this.passes = addPasses(
        this.passes,
        ...(lacking ? [timesPasses(trunk.passes(variants, lacking), size)] : windows.map((window) => this.#recalling(variants, window))),
      )
      const lost = (variant: Variant) =>
        this.#weights.reduce((sum, weight, part) => sum + weight * (at(variant, part) - (lacking?.[part] ?? 0)), 0)
      return Float64Array.from(variants, lost)
    }
    return {
      passes: { attention: 0, mlp: 0, head: 0 },
      scoreExactly,
      score: async (variants, survivors, { lacking } = {}) => {
        const scores = await scoreExactly(variants, lacking)
        this.#scored.ranked += variants.length * size
        // Counts the survivors and the runner-up, on one window if windows are rescored one by one.
        this.#scored.again += Math.min(variants.length, survivors + 1) * (lacking ? size : Math.min(1, size))
        return { scores, survivors: ascending(scores).slice(0, survivors) }
      },
      dispose: () => undefined,
    }
  }

  /**
   * Counts the passes for variants not yet scored on a window. A new window also needs the dense model's answers: one pass, and the head
   * three times.
   */
  #recalling(variants: readonly Variant[], window: Int32Array): PassCount {
    const id = window[0] as number
    const dense = this.#known.has(id) ? [] : [stackPasses(this.#spec.blocks.length, 1, 3)]
    const known = this.#known.get(id) ?? new Set()
    this.#known.set(id, known)
    const fresh = variants.filter((variant) => !known.has(variant.join('')))
    for (const variant of fresh) known.add(variant.join(''))
    return timesPasses(addPasses(...dense, sharedPasses(fresh)), window.length / countedTokens)
  }
}

/** Counts the passes along the trunk of a greedy search. Streams of earlier calls are valid up to the last accepted removal. */
class CountedTrunk {
  #removed: Variant | undefined
  #kept: readonly number[] = [0]

  passes(variants: readonly Variant[], lacking: Variant): PassCount {
    const held = this.#removed ? commonParts(this.#removed, lacking) : 0
    const kept = this.#kept.filter((position) => position <= held)
    const starts = variants.map((variant) => commonParts(variant, lacking))
    const paths = starts.map((start) => ({ start, from: Math.max(0, ...kept.filter((position) => position <= start)) }))
    const passes = sharedPasses(variants, lacking)
    for (const [part, removed] of lacking.entries())
      if (removed === 0 && paths.some(({ start, from }) => from <= part && part < start)) passes[isAttention(part) ? 'attention' : 'mlp']++
    this.#removed = lacking
    this.#kept = [...new Set([...kept, ...starts])]
    return passes
  }
}
