import { expect, test } from 'vitest'
import type { RunEntry } from '#contract/runs/runs.ts'
import { groupRuns } from '#services/runs/runs.ts'

const run = (method: string, seed: number, perplexity?: number, parameters: RunEntry['parameters'] = {}, model = 'm') =>
  ({
    method,
    seed,
    nominal: 0.5,
    reached: 0.49,
    seconds: 10 * (seed + 1),
    tags: [],
    parameters,
    model: { id: model, name: model },
    fingerprint: null,
    lineage: { model, content: null, pruned: false },
    experiment: null,
    measures:
      perplexity === undefined
        ? []
        : [{ name: 'perplexity', dataset: 'x', value: perplexity, unit: '', best: perplexity, on: { hash: model, count: 1 } }],
  }) as unknown as RunEntry

const runs = [run('2ssp', 0, 10), run('2ssp', 1, 14), run('shortgpt', 0, 20, { alpha: 2 })]

test('runs with the same value form a group, with the mean and the deviation of what they measured', () => {
  const [first, second] = groupRuns(runs, ['method'])
  expect(first).toMatchObject({
    keys: [{ label: '2SSP', condition: { field: 'method', is: 'any of', value: ['2ssp'] } }],
    runs: 2,
  })
  expect(first?.means.find(({ field }) => field === 'measure:perplexity/x')).toMatchObject({
    mean: expect.closeTo(Math.sqrt(140), 9),
    deviation: expect.closeTo(1.4 ** Math.SQRT1_2, 9),
    factor: true,
    runs: 2,
  })
  expect(first?.means.find(({ field }) => field === 'seconds')?.mean).toBe(15)
  expect(second?.means.find(({ field }) => field === 'measure:perplexity/x')?.deviation, 'one run has none').toBeNull()
})

test('perplexities on different windows have no mean', () => {
  const [group] = groupRuns([...runs.slice(0, 2), run('2ssp', 2, 400, {}, 'other')], ['method'])
  expect(group?.means.find(({ field }) => field === 'measure:perplexity/x')).toMatchObject({ runs: 3, mean: null, deviation: null })
  expect(group?.means.find(({ field }) => field === 'seconds')?.mean).toBe(20)
})

test('runs without a value are a group that a filter finds', () => {
  const groups = groupRuns(runs, ['parameter:alpha'])
  expect(groups.map(({ keys, runs: count }) => [keys[0]?.value, count])).toEqual([
    [null, 2],
    [2, 1],
  ])
  expect(groups[0]?.keys[0]?.condition).toEqual({ field: 'parameter:alpha', is: 'absent' })
})

test('levels are nested: the largest group of the first comes first, with all of its own groups', () => {
  const groups = groupRuns([...runs, run('shortgpt', 1), run('shortgpt', 1)], ['method', 'seed'])
  expect(groups.map(({ keys, runs: count }) => [...keys.map(({ label }) => label), count])).toEqual([
    ['ShortGPT', '1', 2],
    ['ShortGPT', '0', 1],
    ['2SSP', '0', 1],
    ['2SSP', '1', 1],
  ])
  expect(groups[0]?.keys.map(({ condition }) => condition.field)).toEqual(['method', 'seed'])
})
