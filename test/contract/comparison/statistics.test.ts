import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  bootstrapMean,
  mcnemar,
  meanAndError,
  meanAndSpread,
  pairedShares,
  quantile,
  quantileWithError,
  shareAndError,
  studentQuantile,
  weightedMeanAndError,
} from '#contract/comparison/statistics.ts'
import { type JudgedPair, standings } from '#contract/judging/bradley-terry.ts'

interface Expected {
  mcnemar: [number, number, number][]
  bootstrap: { differences: number[]; seed: number; repeats: number; interval: [number, number] }
  twoModels: { points: number; votes: number; interval: [number, number] }[]
  threeModels: { prompts: [number, number][][]; intervals: [number, number][] }[]
  bradleyTerry: { pairs: [number, number, number][]; strengths: number[] }
  quantiles: { values: number[]; shares: number[]; expected: number[] }
  mean: { values: number[]; value: number; error: number }
}

const expected = JSON.parse(readFileSync(join(import.meta.dirname, '../../fixtures/statistics/expected.json'), 'utf8')) as Expected
const close = (found: number, wanted: number) => expect(Math.abs(found - wanted)).toBeLessThan(1e-6)

test("McNemar's exact test gives SciPy's binomial probabilities, and 1 where nothing flipped", () => {
  for (const [gained, lost, probability] of expected.mcnemar) close(mcnemar(gained, lost), probability)
  expect(mcnemar(0, 0)).toBe(1)
  // A worked example by hand: 1 of 6 discordant pairs, 2 (1 + 6) / 64.
  close(mcnemar(1, 5), 14 / 64)
})

test('a paired bootstrap gives the percentiles that NumPy gives for the same draws', () => {
  const { differences, seed, repeats, interval } = expected.bootstrap
  const { low, high } = bootstrapMean(differences, { seed, repeats })
  close(low, interval[0])
  close(high, interval[1])
})

test('Bradley-Terry strengths are those that maximise the likelihood', () => {
  const pairs = expected.bradleyTerry.pairs.map(([first, second, score], prompt): JudgedPair => ({ prompt, first, second, score }))
  const strengths = standings(4, pairs).map(({ strength }) => strength)
  for (const [at, wanted] of expected.bradleyTerry.strengths.entries()) close(strengths[at] ?? Number.NaN, wanted)
})

/** Draws of the posterior leave its quantiles uncertain by less. */
const closeTo = ({ low, high }: { low: number; high: number }, [least, most]: [number, number], what: string) => {
  expect(Math.abs(low - least), `${what}: ${low} to ${high}`).toBeLessThan(0.01)
  expect(Math.abs(high - most), `${what}: ${low} to ${high}`).toBeLessThan(0.01)
}

test('intervals of two models are those of Jeffreys in statsmodels, for unanimous votes too', () => {
  for (const { points, votes, interval } of expected.twoModels) {
    // Half a point is a tie.
    const pairs = Array.from({ length: votes }, (_, prompt): JudgedPair => {
      return { prompt, first: 0, second: 1, score: Math.max(0, Math.min(1, points - prompt)) }
    })
    const [first, second] = standings(2, pairs)
    closeTo(first?.winInterval ?? { low: 0, high: 0 }, interval, `${points} of ${votes}`)
    closeTo(second?.winInterval ?? { low: 0, high: 0 }, [1 - interval[1], 1 - interval[0]], `${points} of ${votes}, the other`)
    close(first?.winRate ?? Number.NaN, (points + 0.5) / (votes + 1))
  }
})

test('intervals of three models are those of a grid with the likelihood of choix', () => {
  for (const { prompts, intervals } of expected.threeModels) {
    const pairs = prompts.flatMap((votes, prompt) => votes.map(([first, second]): JudgedPair => ({ prompt, first, second, score: 1 })))
    for (const [at, one] of standings(3, pairs).entries()) closeTo(one.winInterval, intervals[at] ?? [0, 0], JSON.stringify(prompts))
  }
})

test('one vote leaves nearly everything open', () => {
  const [winner] = standings(2, [{ prompt: 0, first: 0, second: 1, score: 1 }])
  expect(winner?.winInterval.low).toBeLessThan(0.2)
  expect(winner?.winInterval.high).toBeGreaterThan(0.99)
  expect((winner?.interval.high ?? 0) - (winner?.interval.low ?? 0)).toBeGreaterThan(2)
})

test('votes on one prompt that follow from each other narrow an interval less than votes on others', () => {
  const vote = (prompt: number, first: number, second: number): JudgedPair => ({ prompt, first, second, score: 1 })
  const width = (pairs: JudgedPair[]) => {
    const { low, high } = standings(3, pairs)[0]?.winInterval ?? { low: 0, high: 0 }
    return high - low
  }
  const together = [0, 1, 2].flatMap((prompt) => [vote(prompt, 0, 1), vote(prompt, 0, 2), vote(prompt, 1, 2)])
  expect(width(together)).toBeGreaterThan(width(together.map((pair, prompt) => ({ ...pair, prompt }))))
})

test('one who always wins keeps a finite strength, above a rival with an interval below a half', () => {
  const pairs = Array.from({ length: 12 }, (_, prompt): JudgedPair => ({ prompt, first: 0, second: 1, score: 1 }))
  const [winner, loser] = standings(2, pairs)
  expect(Number.isFinite(winner?.strength)).toBe(true)
  expect(winner?.winRate).toBeGreaterThan(0.9)
  expect(loser?.winInterval.high).toBeLessThan(0.5)
})

test('quantiles, means and shares are those of NumPy, with standard errors', () => {
  const { values, shares, expected: wanted } = expected.quantiles
  const sorted = values.toSorted((a, b) => a - b)
  for (const [at, share] of shares.entries()) close(quantile(sorted, share), wanted[at] ?? Number.NaN)
  const mean = meanAndError(expected.mean.values)
  close(mean.value, expected.mean.value)
  close(mean.error ?? Number.NaN, expected.mean.error)
  expect(quantileWithError(sorted, 0.5).error).toBeGreaterThan(0)
  expect(quantileWithError(sorted, 0.999).error).toBeNull()
  close(shareAndError(30, 40).error ?? Number.NaN, Math.sqrt((0.75 * 0.25) / 39))
})

test('quantiles of Student’s distribution are those of its tables', () => {
  const table = [
    [1, 12.7062],
    [2, 4.30265],
    [3, 3.18245],
    [4.5, 2.658912],
    [7, 2.36462],
    [30, 2.04227],
    [Number.POSITIVE_INFINITY, 1.95996],
  ] as const
  for (const [freedom, value] of table) expect(studentQuantile(0.975, freedom)).toBeCloseTo(value, 4)
  expect(studentQuantile(0.5, 5)).toBeCloseTo(0, 9)
})

test('a weighted mean with equal weights has the usual error, and unequal weights count', () => {
  const equal = weightedMeanAndError([1, 2, 4], [5, 5, 5])
  expect(equal.value).toBeCloseTo(7 / 3, 12)
  expect(equal.error).toBeCloseTo(Math.sqrt((meanAndSpread([1, 2, 4]).spread ?? 0) ** 2 / 3), 12)
  expect(weightedMeanAndError([1, 3], [3, 1]).value).toBe(1.5)
})

test('the interval of paired shares holds when all answers agree', () => {
  // Bonett and Price (2012), formula 5, by hand.
  const none = pairedShares(0, 0, 16)
  expect([none.low, none.high]).toEqual([-none.high, expect.closeTo(1.959964 * Math.sqrt(2 / 18 / 18), 6)])
  expect(pairedShares(6, 0, 16).low).toBeGreaterThan(0)
  expect(pairedShares(2, 0, 16).low).toBeLessThan(0)
})
