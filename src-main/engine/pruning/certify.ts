/** How much further than any error that was seen the bound on errors reaches. */
const safetyFactor = 3
/** Errors that must be known before the bound is trusted; until then more candidates than necessary are scored again. */
const fewestErrors = 8
const fewestRescored = 4

/** What a choice among estimated scores rests on. */
export interface Certificate {
  /** How many candidates were scored again. */
  readonly rescored: number
  /** How far errors of estimates lay from their mean in this round. */
  readonly error: number
}

export interface CertifiedScores {
  /** Exact where candidates were scored again, estimates elsewhere. */
  readonly scores: Float64Array
  /** Places of the candidates whose scores are still estimates: none of them can be among the survivors. */
  readonly estimated: readonly number[]
  readonly certificate: Certificate
}

/**
 * Scores again exactly what could be among the `survivors` smallest scores, so that these are the exact ones. An estimate may be off by
 * what all estimates of the round are off (that changes no order), and by its own error: at most the largest one that this round or
 * `earlier` ones showed, times a safety factor. The best estimates and the runner-up are always scored again, so every round shows some.
 */
export async function certify(
  estimates: Float64Array,
  survivors: number,
  earlier: readonly Certificate[],
  rescore: (places: readonly number[]) => Promise<Float64Array>,
): Promise<CertifiedScores> {
  const order = [...estimates.keys()].sort((a, b) => orderOf(estimates, a, b))
  const exact = new Map<number, number>()
  const known = earlier.reduce((sum, { rescored }) => sum + rescored, 0)
  const shown = Math.max(0, ...earlier.map(({ error }) => error))
  // What is no number gives no bound: it is scored again.
  const lost = order.filter((place) => !Number.isFinite(estimates[place]))
  let wanted = [...new Set([...order.slice(0, Math.max(survivors + 1, known < fewestErrors ? fewestRescored : 0)), ...lost])]
  let error = shown
  while (wanted.length > 0) {
    const scores = await rescore(wanted)
    wanted.forEach((place, i) => {
      exact.set(place, scores[i] as number)
    })
    const { mean, most } = errorsOf(estimates, exact)
    error = most
    const limit = [...exact.values()].sort((a, b) => a - b)[survivors - 1] ?? Number.POSITIVE_INFINITY
    const bound = safetyFactor * Math.max(most, shown)
    wanted = order.filter((place) => !exact.has(place) && !((estimates[place] as number) + mean - bound > limit))
  }
  return {
    scores: estimates.map((estimate, place) => exact.get(place) ?? estimate),
    estimated: [...estimates.keys()].filter((place) => !exact.has(place)),
    certificate: { rescored: exact.size, error },
  }
}

/**
 * Scores again, more exactly, those of `places` whose order the `survivors` smallest depend on and who are closer to each other than `margin`,
 * relative to the smaller: the scores with these in their place.
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
    // Beyond the last survivor as far as one is close to the next.
    if (rank >= survivors && !close.has(order[rank] as number)) break
    if (isClose(rank)) close.add(order[rank] as number).add(order[rank + 1] as number)
  }
  if (close.size === 0) return scores
  const again = [...close]
  const exact = await rescore(again)
  return scores.map((score, place) => (close.has(place) ? (exact[again.indexOf(place)] as number) : score))
}

/** Smaller scores first, what is no number last; equal ones by place. */
function orderOf(scores: Float64Array, a: number, b: number): number {
  const [first, second] = [scores[a] as number, scores[b] as number]
  if (Number.isNaN(first) || Number.isNaN(second)) return Number(Number.isNaN(first)) - Number(Number.isNaN(second)) || a - b
  return first - second || a - b
}

/** The mean of the finite errors, and how far one lies from it at most. */
function errorsOf(estimates: Float64Array, exact: ReadonlyMap<number, number>): { mean: number; most: number } {
  const errors = [...exact].map(([place, score]) => score - (estimates[place] as number)).filter(Number.isFinite)
  const mean = errors.reduce((sum, error) => sum + error, 0) / Math.max(1, errors.length)
  return { mean, most: Math.max(0, ...errors.map((error) => Math.abs(error - mean))) }
}
