import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'

/** The bound on errors is the largest observed error times this factor. */
const safetyFactor = 3
/** The bound is trusted once this many errors are known. Until then, at least `fewestRescored` candidates are scored again. */
const fewestErrors = 8
const fewestRescored = 4

/** How a choice among estimated scores was certified. */
export interface Certificate {
  /** How many candidates were scored again. */
  readonly rescored: number
  /** The largest distance of an error from the mean error of its window in this round. */
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
  /** Indices of the smallest scores, smallest first. Given the bound on errors, exact scores would have the same order. */
  readonly survivors: readonly number[]
  readonly certificate: Certificate
}

/**
 * Rescores every candidate that could be among the `survivors` smallest, on as many windows as it takes to tell, so that the survivors are
 * the same as with exact scores. An estimate has the common error of its window, which changes no order, and an error of its own. The
 * latter is bounded by the largest one that this round or `earlier` ones showed on a window, times a safety factor. The best estimates and
 * the runner-up are always rescored on a window, so every round shows some errors.
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
  /** The largest distance of an error from the mean error of its window. */
  error = 0
  readonly #estimates: Estimates
  /** Exact scores on the first windows, candidate by candidate. */
  readonly #exact: readonly number[][]
  /** The common error of each window's estimates, to be added to them. For a window without exact scores, the mean of the others. */
  readonly #offsets: number[]

  constructor(estimates: Estimates) {
    this.#estimates = estimates
    this.#exact = estimates.scores.map(() => [])
    this.#offsets = estimates.shares.map(() => 0)
  }

  get rescored(): number {
    return this.#exact.filter(({ length }) => length > 0).length
  }

  /** Returns the candidates with the best estimates, and those whose estimates are not finite, which allow no bound. */
  begin(count: number): number[] {
    const scores = this.#scores
    const lost = [...scores.keys()].filter((place) => !Number.isFinite(scores[place]))
    return [...new Set([...inOrder(scores).slice(0, count), ...lost])]
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
      const mean = meanOf(errors.length > 0 ? errors : seen)
      if (errors.length > 0) seen.push(mean)
      this.#offsets[window] = mean
      this.error = Math.max(this.error, ...errors.map((error) => Math.abs(error - mean)))
    }
  }

  /** The finite errors of estimates on a window. */
  #errorsOn(window: number): number[] {
    return this.#exact
      .flatMap((own, place) => (own.length > window ? [(own[window] as number) - this.#estimateOf(place, window)] : []))
      .filter(Number.isFinite)
  }

  /**
   * Returns the candidates that may or may not be among the `survivors` smallest, given a bound on the error on a window, and that have
   * windows left to rescore.
   */
  undecided(survivors: number, bound: number): number[] {
    const scores = this.#scores
    const order = inOrder(scores)
    const radii = this.#exact.map(({ length }) => bound * this.#shareBehind(length))
    const found = new Set<number>()
    for (const [rank, better] of order.slice(0, survivors).entries()) {
      const limit = (scores[better] as number) + (radii[better] as number)
      const rivals = order.slice(rank + 1).filter((place) => !((scores[place] as number) - (radii[place] as number) > limit))
      if (rivals.length > 0) for (const place of [better, ...rivals]) found.add(place)
    }
    return [...found].filter((place) => this.#exactOf(place).length < this.#offsets.length)
  }

  #shareBehind(first: number): number {
    return this.#estimates.shares.slice(first).reduce((sum, share) => sum + share, 0)
  }

  result(survivors: number): Omit<CertifiedScores, 'certificate'> {
    const scores = this.#scores
    const estimated = [...scores.keys()].filter((place) => this.#exactOf(place).length < this.#offsets.length)
    return { scores, estimated, survivors: inOrder(scores).slice(0, survivors) }
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
  const order = [...places].sort((a, b) => orderOf(scores, a, b))
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

/** Returns the indices of scores, smallest first. Ties go to the lower index; NaN comes last. */
export const inOrder = (scores: Float64Array): number[] => [...scores.keys()].sort((a, b) => orderOf(scores, a, b))

/** Sorts smaller scores first, NaN last, and ties by index. */
function orderOf(scores: Float64Array, a: number, b: number): number {
  const [first, second] = [scores[a] as number, scores[b] as number]
  if (Number.isNaN(first) || Number.isNaN(second)) return Number(Number.isNaN(first)) - Number(Number.isNaN(second)) || a - b
  return first - second || a - b
}
