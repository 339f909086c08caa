import { expect, test } from 'vitest'
import { tableTexts } from '#contract/comparison/cell-text.ts'
import { firstPair, pairTable } from '#contract/comparison/pair-table.ts'
import { groupOverSeeds } from '#contract/comparison/seeds.ts'
import type { RunEntry } from '#contract/runs/runs.ts'

function run(method: string, nominal: number, shifts: number[], { seed = 0, hash = 'prose' } = {}): RunEntry {
  const losses = [1, 5, 9].map((loss, at) => loss + (shifts[at] ?? 0))
  const value = Math.exp(losses.reduce((sum, loss) => sum + loss, 0) / losses.length)
  const on = { hash, count: 3, sequenceLength: 64 }
  return {
    id: `${method} ${nominal} ${seed}`,
    name: `${method} ${nominal}`,
    method,
    nominal,
    reached: nominal,
    seed,
    baseline: method === 'dense',
    model: { id: 'm', name: 'tiny' },
    fingerprint: null,
    lineage: { model: 'm', content: null, pruned: false },
    parameters: {},
    measures: [
      { name: 'perplexity', dataset: 'prose', value, best: value, unit: '', on, losses },
      { name: 'size', dataset: '', value: 5, best: 5, unit: 'bytes' },
      { name: 'inference time', dataset: '', value: 5, best: 5, unit: 's' },
      { name: 'load by others', dataset: 'while timing', value: 0.1 + shifts.length / 10, error: 0.01, best: 0, unit: 'share', on },
    ],
  } as unknown as RunEntry
}

const groupsOf = (...runs: RunEntry[]) => groupOverSeeds(runs)

test('two rows are tested by each measure that varies, in pairs, with their seeds and windows', () => {
  const [first, second] = groupsOf(
    run('2ssp', 0.5, [0.1, 0.2, 0.3]),
    run('2ssp', 0.5, [0.11, 0.21, 0.31], { seed: 1 }),
    run('shortgpt', 0.5, [0.6, 0.71, 0.82]),
  )
  if (!first || !second) throw new Error('Two groups are needed.')
  const { columns, rows, caption, notes } = pairTable(first, second)
  expect(columns.map(({ label }) => label)).toEqual(['Measure', '2ssp 0.5', 'shortgpt 0.5', 'Difference', 'p', 'Seeds', 'Conclusion'])
  expect(rows).toHaveLength(1)
  const [measure, , , difference, p, seeds, conclusion] = rows[0]?.map(({ value }) => value) ?? []
  const { low, high } = rows[0]?.[3] ?? {}
  expect([measure, seeds, conclusion]).toEqual(['perplexity (prose)', '2 and 1', 'the first is better'])
  expect(difference).toBeCloseTo(Math.exp(0.205 - 0.71), 6)
  expect(Number(low)).toBeLessThan(Number(difference))
  expect(Number(high)).toBeLessThan(1)
  expect(p).toMatch(/^0\.0[1-4]\d$/)
  expect(notes?.join(' ')).toContain('Geometric means over 2 seeds, with the 95 % interval in brackets.')
  expect(caption).toBe('2ssp 0.5 against shortgpt 0.5, on tiny, 3 windows of 64 tokens without BOS.')
  // Both means have the decimals of the narrower interval; the difference has its own.
  const decimals = (text = '') => text.match(/^[\d,]*\.?(\d*)/)?.[1]?.length
  const [, own, other] = tableTexts(pairTable(first, second))[0] ?? []
  expect(decimals(own)).toBe(decimals(other))
  expect(pairTable(second, first).rows[0]?.at(-1)?.value).toBe('the second is better')
})

test('measures that were taken on other windows say which, each in its row', () => {
  const [first, second] = groupsOf(
    ...['2ssp', 'shortgpt'].map((method) => {
      const { measures, ...rest } = run(method, 0.5, [0.1, 0.2])
      const [prose] = measures.filter(({ name }) => name === 'perplexity')
      const on = { hash: 'code', count: 3, sequenceLength: 32, beginToken: true }
      return { ...rest, measures: prose ? [prose, { ...prose, dataset: 'code', on }] : [] } as RunEntry
    }),
  )
  if (!first || !second) throw new Error('Two groups are needed.')
  const { columns, rows, caption } = pairTable(first, second)
  expect(caption).toBe('2ssp 0.5 against shortgpt 0.5, on tiny.')
  expect(columns.at(-2)?.label).toBe('Measured on')
  expect(rows.map((row) => row.at(-2)?.value)).toEqual(['3 windows of 64 tokens without BOS', '3 windows of 32 tokens that begin with BOS'])
})

test('numbers of other windows are not tested, and the table says why', () => {
  const [first, second] = groupsOf(run('2ssp', 0.5, [0.1]), run('shortgpt', 0.5, [0.1], { hash: 'other' }))
  if (!first || !second) throw new Error('Two groups are needed.')
  const [row] = pairTable(first, second).rows
  expect(row?.slice(3, 5)).toEqual([{ value: null }, { value: null }])
  expect(row?.at(-1)?.value).toBe('not compared: measured on other text')
})

test('the pair that is shown first is of two pruned results at one sparsity', () => {
  const groups = groupsOf(run('dense', 0, []), run('2ssp', 0.25, [0.1]), run('2ssp', 0.5, [0.1]), run('shortgpt', 0.5, [0.1]))
  expect(firstPair(groups)?.map(({ name }) => name)).toEqual(['2ssp 0.5', 'shortgpt 0.5'])
  const apart = groupsOf(run('2ssp', 0.5, [0.1], { hash: 'other' }), run('2ssp', 0.5, [0.1], { seed: 1 }), run('shortgpt', 0.5, [0.1]))
  expect(firstPair(apart)?.map(({ runs }) => runs[0]?.id)).toEqual(['2ssp 0.5 1', 'shortgpt 0.5 0'])
  expect(firstPair(groups.slice(0, 2))?.map(({ name }) => name)).toEqual(['dense 0', '2ssp 0.25'])
  expect(firstPair(groups.slice(0, 1))).toBeNull()
})

test('two results that share no measure say so instead of explaining a test', () => {
  const [first, second] = groupsOf(run('2ssp', 0.5, [0.1, 0.2]), { ...run('shortgpt', 0.5, [0.3]), measures: [] })
  if (!first || !second) throw new Error('Two groups are needed.')
  const { rows, notes } = pairTable(first, second)
  expect([rows, notes]).toEqual([[], ['No measure of both can be tested.']])
})
