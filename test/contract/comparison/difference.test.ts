import { expect, test } from 'vitest'
import { basisText, differenceOf, differenceText, inverse } from '#contract/comparison/difference.ts'
import type { RunEntry } from '#contract/runs/runs.ts'

const column = { name: 'perplexity', dataset: 'prose' }

function run(
  losses: number[],
  {
    seed = 0,
    method = '2ssp',
    hash = 'windows',
    predicted,
  }: Partial<Record<'seed', number>> & { method?: string; hash?: string; predicted?: number[] } = {},
) {
  const weights = predicted ?? losses.map(() => 1)
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const mean = losses.reduce((sum, loss, at) => sum + loss * (weights[at] ?? 0), 0) / total
  const on = { hash, count: losses.length, sequenceLength: 512 }
  return {
    model: { id: 'm', name: 'tiny' },
    fingerprint: null,
    lineage: { model: 'm', content: null, pruned: false },
    method,
    seed,
    measures: [{ ...column, value: Math.exp(mean), best: 0, unit: '', on, losses, ...(predicted ? { predicted } : {}) }],
  } as unknown as RunEntry
}

const between = (first: RunEntry[], second: RunEntry[]) => differenceOf({ runs: first }, { runs: second }, column)

test('losses are paired by window: differences of 0.1, 0.2 and 0.3 make a factor with Student’s interval', () => {
  // Windows differ by far more than the runs do.
  const found = between([run([1.1, 5.2, 9.3])], [run([1, 5, 9])])
  // Mean 0.2, deviation 0.1, standard error 0.1 / √3, and 4.30265 for two degrees of freedom.
  const half = (4.30265 * 0.1) / Math.sqrt(3)
  expect(Math.log(found?.value ?? 0)).toBeCloseTo(0.2, 12)
  expect(Math.log(found?.low ?? 0)).toBeCloseTo(0.2 - half, 5)
  expect(Math.log(found?.high ?? 0)).toBeCloseTo(0.2 + half, 5)
  expect(found).toMatchObject({ factor: true, clear: false, count: 3, unit: 'window' })
  // t is 3.4641 with two degrees of freedom, whose tail has a closed form.
  const t = 0.2 / (0.1 / Math.sqrt(3))
  expect(found?.probability).toBeCloseTo(1 - t / Math.sqrt(2 + t * t), 9)
  expect(between([run([1, 5, 9])], [run([1, 5, 9])])?.probability).toBe(1)
  expect(between([run([1.19, 5.2, 9.21])], [run([1, 5, 9])])?.clear).toBe(true)
  expect(found && [differenceText(found), basisText(found)]).toEqual(['×1.22 (0.953 to 1.57)', '3 windows'])
  const turned = found && inverse(found)
  expect([turned?.value, turned?.low, turned?.high]).toEqual([1 / (found?.value ?? 1), 1 / (found?.high ?? 1), 1 / (found?.low ?? 1)])
})

test('windows count by their predicted tokens', () => {
  const predicted = [300, 100]
  const found = between([run([1.1, 2.3], { predicted })], [run([1, 2], { predicted })])
  expect(Math.log(found?.value ?? 0)).toBeCloseTo((0.1 * 300 + 0.3 * 100) / 400, 12)
})

test('with several seeds the wider of both spreads counts, and a single pruned seed varies like the other', () => {
  const seeds = (...shifts: number[]) => shifts.map((shift, seed) => run([1 + shift, 2 + shift, 3 + shift], { seed }))
  const dense = [run([0.9, 1.9, 2.9], { method: 'dense' })]
  const over = between(seeds(-0.1, 0, 0.1), dense)
  expect(over).toMatchObject({ unit: 'seed', count: 3, clear: false })
  expect(Math.log(over?.high ?? 0) - Math.log(over?.value ?? 0)).toBeCloseTo((4.30265 * 0.1) / Math.sqrt(3), 5)
  const single = between(seeds(-0.1, 0, 0.1), [run([0.9, 1.9, 2.9])])
  expect(Math.log(single?.high ?? 0) - Math.log(single?.value ?? 0)).toBeCloseTo(4.30265 * Math.sqrt(0.01 / 3 + 0.01), 5)
  // A seed that was run twice counts once.
  const twice = between([...seeds(-0.1, 0, 0.1), ...seeds(5).slice(0, 1), ...seeds(-0.1).slice(0, 1)], dense)
  expect(twice?.value).toBeCloseTo(over?.value ?? 0, 12)
  expect(between(seeds(0, 1e-9, 2e-9), dense)).toMatchObject({ clear: true })
})

test('results with the same seeds are compared in pairs of a seed, whatever all of them gain from it', () => {
  const seeds = (offset: number, ...shifts: number[]) =>
    shifts.map((shift, seed) =>
      run(
        [1, 2, 3].map((loss) => loss + offset + shift),
        { seed },
      ),
    )
  const draws = [-0.4, 0, 0.5]
  const found = between(seeds(0.2, ...draws), seeds(0, ...draws.map((draw, at) => draw + 0.01 * at)))
  // Differences of 0.2, 0.19 and 0.18: mean 0.19, deviation 0.01.
  expect(found).toMatchObject({ unit: 'seed', count: 3, clear: true })
  expect(Math.log(found?.low ?? 0)).toBeCloseTo(0.19 - (4.30265 * 0.01) / Math.sqrt(3), 5)
  // The order of the runs does not matter, and other seeds are no pairs.
  expect(between(seeds(0.2, ...draws).toReversed(), seeds(0, ...draws))?.clear).toBe(true)
  const others = seeds(0, ...draws).map((one) => ({ ...one, seed: one.seed + 3 }))
  expect(between(seeds(0.2, ...draws), others)).toMatchObject({ unit: 'seed', clear: false })
})

test('equal runs, one window, other windows and unknown losses make no clear difference', () => {
  expect(between([run([1, 2, 3])], [run([1, 2, 3])])).toMatchObject({ value: 1, low: 1, high: 1, clear: false })
  expect(between([run([1])], [run([2])])).toBeNull()
  expect(between([run([1, 2])], [run([1, 2], { hash: 'others' })])).toBeNull()
  const bare = { ...run([1, 2]), measures: run([1, 2]).measures.map(({ losses: _, ...rest }) => rest) }
  expect(between([bare as RunEntry], [run([1, 2])])).toBeNull()
})

test('answers are paired: McNemar’s test and the interval must both see the difference', () => {
  const answered = (hits: string) =>
    ({
      ...run([1, 2]),
      measures: [
        { name: 'looping answers', dataset: 'prose', value: hits.split('1').length - 1, unit: 'share', on: { hash: 'p', count: 16 }, hits },
      ],
    }) as unknown as RunEntry
  const loops = (first: string, second: string) =>
    differenceOf({ runs: [answered(first)] }, { runs: [answered(second)] }, { name: 'looping answers', dataset: 'prose' })
  const of = (many: number) => '1'.repeat(many) + '0'.repeat(16 - many)
  expect([4, 5, 6].map((more) => loops(of(more), of(0))?.clear)).toEqual([false, false, true])
  // The same shares of other answers: six more and six fewer.
  expect(loops(of(6), `${'0'.repeat(10)}${'1'.repeat(6)}`)).toMatchObject({ value: 0, clear: false, unit: 'answer', count: 16 })
})

test('a difference keeps its size however small or large a factor is, and names points of shares', () => {
  const difference = { value: 1, low: 1, high: 1, clear: true, probability: 0.01, count: 8, unit: 'window' as const }
  const factor = { ...difference, factor: true }
  expect(differenceText({ ...factor, value: 1.2e-7, low: 1e-7, high: 0.00123 })).toBe('×1.20e−7 (1.00e−7 to 0.00123)')
  expect(differenceText({ ...factor, value: 999.7, low: 12.345, high: 12345.6 })).toBe('×1,000 (12.3 to 12,346)')
  const change = { ...difference, factor: false, value: 0.2, low: -0.04, high: 0.44 }
  expect(differenceText(change, 'share')).toBe('+20 points (−4 to +44)')
  expect(differenceText(change)).toBe('+0.2 (−0.04 to +0.44)')
})
