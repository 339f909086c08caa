import { gammaNumbers, type Interval, middle } from '../comparison/statistics.ts'

/** A judged pair: two contestants on one prompt, and the points of the first: 1 for a win, 0 for a loss, 0.5 if neither was better. */
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

/** Explains the intervals on screens and in reports. */
export const intervalMeaning =
  'A win probability is the mean over all other models, with the 95 % credible interval of the Bradley-Terry model. Before any vote, all models count as tied on one prompt, so a few votes change little. Votes on the same prompt are not independent, so all ten pairs of five answers count as only four votes.'

/** The points of each contestant, and the games between every two, with votes and prior together. */
interface Tally {
  readonly points: readonly number[]
  readonly games: readonly (readonly number[])[]
}

/**
 * Returns the strengths of the model of Bradley and Terry (1952), P(i beats j) = s_i / (s_i + s_j), as logarithms with mean 0. They are the
 * mode of the posterior, found by the MM algorithm (Hunter 2004, Eq. 3). The prior is one prompt on which all contestants tied.
 */
function findMode({ points, games }: Tally): number[] {
  let strengths = points.map(() => 1)
  for (let round = 0; round < 10_000; round++) {
    const next = strengths.map((own, i) => {
      const rivals = strengths.reduce((sum, other, j) => sum + (games[i]?.[j] ?? 0) / (own + other), 0)
      return rivals === 0 ? own : (points[i] ?? 0) / rivals
    })
    const centred = centre(next)
    const moved = Math.max(...centred.map((one, i) => Math.abs(Math.log(one / (strengths[i] ?? 1)))))
    strengths = centred
    if (moved < 1e-12) break
  }
  return strengths.map(Math.log)
}

function centre(strengths: readonly number[]): number[] {
  const level = Math.exp(strengths.reduce((sum, one) => sum + Math.log(one), 0) / strengths.length)
  return strengths.map((one) => one / level)
}

/** Sums the votes and the prior. The prior counts as one prompt, so it weighs as much as the votes on any other prompt. */
function tally(contestants: number, pairs: readonly JudgedPair[]): Tally {
  const points = new Array<number>(contestants).fill(0)
  const games = Array.from({ length: contestants }, () => new Array<number>(contestants).fill(0))
  const add = (i: number, j: number, score: number, weight: number) => {
    points[i] = (points[i] ?? 0) + weight * score
    const row = games[i] as number[]
    row[j] = (row[j] ?? 0) + weight
  }
  for (const votes of [allTied(contestants), ...Map.groupBy(pairs, ({ prompt }) => prompt).values()]) {
    const weight = weightOf(votes)
    for (const { first, second, score } of votes) {
      add(first, second, score, weight)
      add(second, first, 1 - score, weight)
    }
  }
  return { points, games }
}

function allTied(contestants: number): JudgedPair[] {
  const all = Array.from({ length: contestants }, (_, i) => i)
  return all.flatMap((first) => all.slice(first + 1).map((second) => ({ prompt: -1, first, second, score: 0.5 })))
}

/** Returns the weight of each vote on one prompt. All pairs of n answers count as n - 1 votes, because they only rank the answers. */
function weightOf(votes: readonly JudgedPair[]): number {
  const answers = new Set(votes.flatMap(({ first, second }) => [first, second]))
  return Math.min(1, (answers.size - 1) / votes.length)
}

/** Number of draws from the posterior, and of the first draws, which are discarded. */
const [draws, burnIn] = [20_000, 500]

/** Returns standings with 95 % credible intervals. The draws from the posterior are the same every time. */
export function standings(contestants: number, pairs: readonly JudgedPair[]): Standing[] {
  const counted = tally(contestants, pairs)
  const strengths = findMode(counted)
  const drawn = drawPosterior(counted)
  return strengths.map((strength, i) => ({
    strength,
    interval: middle(Float64Array.from(drawn, (one) => one[i] ?? 0)),
    winRate: winRate(strengths, i),
    winInterval: middle(Float64Array.from(drawn, (one) => winRate(one, i))),
  }))
}

/** Draws log strengths from their posterior, by the Gibbs sampler of Caron and Doucet (2012, 2.2). The prior is flat beside the tally. */
function drawPosterior({ points, games }: Tally): number[][] {
  const gamma = gammaNumbers(1)
  let strengths = points.map(() => 1)
  return Array.from({ length: burnIn + draws }, () => {
    const rates = points.map(() => 0)
    for (const [i, row] of games.entries()) {
      for (let j = i + 1; j < row.length; j++) {
        const waited = gamma(row[j] ?? 0) / ((strengths[i] ?? 1) + (strengths[j] ?? 1))
        rates[i] = (rates[i] ?? 0) + waited
        rates[j] = (rates[j] ?? 0) + waited
      }
    }
    strengths = centre(points.map((own, i) => gamma(own) / (rates[i] ?? 1)))
    return strengths.map(Math.log)
  }).slice(burnIn)
}

function winRate(strengths: readonly number[], own: number): number {
  const rivals = strengths.filter((_, i) => i !== own)
  return rivals.reduce((sum, rival) => sum + 1 / (1 + Math.exp(rival - (strengths[own] ?? 0))), 0) / rivals.length
}
