import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { bootstrapMean, mcnemar, meanAndError, quantile, quantileWithError, shareAndError } from '#contract/comparison/statistics.ts'
import { bradleyTerry, type JudgedPair, standings } from '#contract/judging/bradley-terry.ts'

interface Expected {
  mcnemar: [number, number, number][]
  bootstrap: { differences: number[]; seed: number; repeats: number; interval: [number, number] }
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
  const strengths = bradleyTerry(4, pairs)
  for (const [at, wanted] of expected.bradleyTerry.strengths.entries()) close(strengths[at] ?? Number.NaN, wanted)
})

test('one who always wins keeps a finite strength, above a rival with an interval below a half', () => {
  const pairs = Array.from({ length: 12 }, (_, prompt): JudgedPair => ({ prompt, first: 0, second: 1, score: 1 }))
  const [winner, loser] = standings(2, pairs, { repeats: 50 })
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
