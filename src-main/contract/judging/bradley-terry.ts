import { type Interval, middle, resamplings, uniformNumbers } from '../comparison/statistics.ts'

/** One judged pair: two contestants on one prompt, and the first one's points (1 a win, 0 a loss, 0.5 each if neither was better). */
export interface JudgedPair {
  prompt: number
  first: number
  second: number
  score: number
}

export interface Standing {
  /** Natural log of the Bradley-Terry strength, relative to the mean. */
  strength: number
  interval: Interval
  /** Probability of winning, averaged over all opponents. */
  winRate: number
  winInterval: Interval
}

/** Virtual points for both sides of each compared pair, so that a contestant who always wins keeps a finite strength. */
export const virtualPoints = 0.1

/**
 * Strengths of the Bradley-Terry model (1952), P(i beats j) = s_i / (s_i + s_j), by the MM algorithm (Hunter 2004, Eq. 3). Returned as logs
 * with mean 0, to within `precision`. A contestant with no pairs has strength 0.
 */
export function bradleyTerry(contestants: number, pairs: readonly JudgedPair[], precision = 1e-12): number[] {
  const { points, games } = tally(contestants, pairs)
  let strengths = new Array<number>(contestants).fill(1)
  for (let round = 0; round < 10_000; round++) {
    const next = strengths.map((own, i) => {
      let rivals = 0
      for (let j = 0; j < contestants; j++) rivals += (games[i]?.[j] ?? 0) / (own + (strengths[j] ?? 1))
      return rivals === 0 ? own : (points[i] ?? 0) / rivals
    })
    const level = Math.exp(next.reduce((sum, one) => sum + Math.log(one), 0) / contestants)
    const centred = next.map((one) => one / level)
    const moved = Math.max(...centred.map((one, i) => Math.abs(Math.log(one / (strengths[i] ?? 1)))))
    strengths = centred
    if (moved < precision) break
  }
  return strengths.map(Math.log)
}

function tally(contestants: number, pairs: readonly JudgedPair[]): { points: number[]; games: number[][] } {
  const points = new Array<number>(contestants).fill(0)
  const games = Array.from({ length: contestants }, () => new Array<number>(contestants).fill(0))
  const add = (i: number, j: number, score: number, of: number) => {
    points[i] = (points[i] ?? 0) + score
    const row = games[i] as number[]
    row[j] = (row[j] ?? 0) + of
  }
  const met = new Set<string>()
  for (const { first, second, score } of pairs) {
    add(first, second, score, 1)
    add(second, first, 1 - score, 1)
    met.add(first < second ? `${first} ${second}` : `${second} ${first}`)
  }
  for (const key of met) {
    const [i, j] = key.split(' ').map(Number) as [number, number]
    add(i, j, virtualPoints, 2 * virtualPoints)
    add(j, i, virtualPoints, 2 * virtualPoints)
  }
  return { points, games }
}

/** Precision of the strengths within one resampling. Too small to be visible in an interval over thousands of them. */
const resampledPrecision = 1e-6

/** Standings with 95 % intervals. Resamples whole prompts with all their pairs, because votes on one prompt are correlated. */
export function standings(contestants: number, pairs: readonly JudgedPair[], { seed = 1, repeats = resamplings / 2 } = {}): Standing[] {
  const byPrompt = [...Map.groupBy(pairs, ({ prompt }) => prompt).values()]
  const draw = uniformNumbers(seed)
  const strengths = bradleyTerry(contestants, pairs)
  const resampled = Array.from({ length: repeats }, () =>
    bradleyTerry(
      contestants,
      byPrompt.flatMap(() => byPrompt[Math.floor(draw() * byPrompt.length)] ?? []),
      resampledPrecision,
    ),
  )
  return strengths.map((strength, i) => ({
    strength,
    interval: middle(Float64Array.from(resampled, (one) => one[i] ?? 0)),
    winRate: winRate(strengths, i),
    winInterval: middle(Float64Array.from(resampled, (one) => winRate(one, i))),
  }))
}

function winRate(strengths: readonly number[], own: number): number {
  const rivals = strengths.filter((_, i) => i !== own)
  return rivals.reduce((sum, rival) => sum + 1 / (1 + Math.exp(rival - (strengths[own] ?? 0))), 0) / rivals.length
}
