import { expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { comparisonTable } from '#contract/comparison/comparison-table.ts'
import { differenceOf } from '#contract/comparison/difference.ts'
import { groupEach, groupOverSeeds } from '#contract/comparison/seeds.ts'

/** A perplexity on three windows, on which all runs differ alike. */
const measured = (value: number, hash = 'windows') => ({
  name: 'perplexity',
  dataset: 'wikitext2',
  value,
  best: value,
  unit: '',
  on: { hash, count: 3 },
  losses: [-0.1, 0, 0.1].map((own) => Math.log(value) + own + 1e-4 * own * value),
})

function run(id: string, change: Partial<ComparedRun> & { perplexity?: number } = {}): ComparedRun {
  const { perplexity, ...rest } = change
  return {
    id,
    name: id,
    status: 'done',
    experiment: null,
    model: { id: 'model-1', name: 'tiny' },
    method: '2ssp',
    baseline: false,
    seed: 0,
    nominal: 0.5,
    reached: 0.49,
    progress: null,
    problem: null,
    createdAt: 1,
    startedAt: 1,
    endedAt: 2,
    seconds: 1,
    executor: null,
    fingerprint: null,
    lineage: { model: rest.model?.id ?? 'model-1', content: rest.fingerprint ?? null, pruned: false },
    job: null,
    device: 'cpu',
    hasPlan: true,
    starred: false,
    archived: false,
    tags: [],
    parent: null,
    parameters: { alpha: 1.5 },
    calibration: null,
    evaluation: [],
    paired: [],
    measures: perplexity === undefined ? [] : [measured(perplexity)],
    plan: null,
    blocks: 4,
    intermediate: 64,
    removalOrder: [],
    answers: [],
    ...rest,
  } as ComparedRun
}

test('seeds are put together and nothing else is', () => {
  const runs = [
    run('a', { seed: 0, perplexity: 10 }),
    run('b', { seed: 1, perplexity: 14 }),
    run('c', { seed: 0, perplexity: 9, parameters: { alpha: 2 } }),
  ]
  const groups = groupOverSeeds(runs)
  expect(groups.map(({ runs: members }) => members.map(({ id }) => id))).toEqual([['a', 'b'], ['c']])
  expect(groups[0]?.measures.get('perplexity/wikitext2')).toEqual({
    mean: expect.closeTo(Math.sqrt(140), 9),
    spread: expect.closeTo(1.4 ** Math.SQRT1_2, 9),
    count: 2,
    factor: true,
  })
  expect(groups[1]?.measures.get('perplexity/wikitext2')?.spread).toBeNull()
})

test('names say the model where there are several', () => {
  const other = { id: 'other', name: 'another' } as ComparedRun['model']
  const runs = [run('a', { seed: 0 }), run('b', { seed: 1 }), run('c', { model: other })]
  expect(groupOverSeeds(runs).map(({ name }) => name)).toEqual([
    `${runs[0]?.name}, 2 seeds, ${runs[0]?.model.name}`,
    `${runs[2]?.name}, another`,
  ])
  expect(groupEach(runs.slice(0, 2)).map(({ name }) => name)).toEqual(runs.slice(0, 2).map(({ name }) => name))
})

test('the table puts the baseline first and marks the best of the others', () => {
  const table = comparisonTable(
    [run('a', { perplexity: 12 }), run('dense', { method: 'dense', perplexity: 10 }), run('c', { perplexity: 15 })],
    'dense',
    false,
  )
  expect(table.rows.map((row) => row[1]?.value)).toEqual(['Dense', '2SSP', '2SSP'])
  expect(table.rows.map((row) => row.at(-1)?.best)).toEqual([false, true, false])
})

test('times compete by their speed-up, where each has one', () => {
  const timed = (id: string, time: number, ...pace: number[]) =>
    run(id, {
      measures: [
        { name: 'inference time', dataset: '', value: time, best: time, unit: 'seconds' },
        ...pace.map((value) => ({ name: 'speed-up', dataset: 'prefill', value, best: value, unit: '' })),
      ],
    })
  const bestOf = (...runs: ComparedRun[]) => comparisonTable(runs, null, false, ['inference time']).rows.map((row) => row.at(-1)?.best)
  expect(bestOf(timed('busy hour', 2, 1.5), timed('calm hour', 1, 1.2))).toEqual([true, false])
  expect(bestOf(timed('busy hour', 2, 1.5), timed('calm hour', 1))).toEqual([false, true])
})

test('perplexities compete only among models that were measured on the same tokens, sizes among all', () => {
  const of = (id: string, model: string, hash: string, perplexity: number) => {
    const size = { name: 'size', dataset: '', value: perplexity, best: perplexity, unit: 'bytes' }
    return run(id, { model: { id: model, name: model }, measures: [measured(perplexity, hash), size] })
  }
  const runs = [
    of('a', 'large', '1', 20),
    of('b', 'large', '1', 30),
    of('c', 'small', '1', 40),
    of('d', 'other', '2', 5),
    of('e', 'other', '2', 6),
  ]
  const best = (some: ComparedRun[]) => comparisonTable(some, null, false).rows.map((row) => row.slice(-2).map((cell) => cell.best))
  expect(best(runs).map(([perplexity]) => perplexity)).toEqual([true, false, false, true, false])
  expect(best(runs).map(([, size]) => size)).toEqual([false, false, false, true, false])
  expect(
    best(runs.slice(2, 4)).map(([perplexity]) => perplexity),
    'alone in its group',
  ).toEqual([false, false])
  expect(comparisonTable(runs, null, false).notes?.slice(1)).toEqual([
    'Not compared with the others by perplexity (wikitext2): d, other; e, other (measured on other tokens).',
  ])
})

test('runs of a model that was replaced in between are no seeds of one another', () => {
  const members = [
    run('a', { seed: 0, fingerprint: '1' }),
    run('b', { seed: 1, fingerprint: '1' }),
    run('c', { seed: 2, fingerprint: '2' }),
  ]
  expect(groupOverSeeds(members).map((group) => group.runs.map(({ id }) => id))).toEqual([['a', 'b'], ['c']])
})

test('a seed that was run twice counts once, and sizes have no deviation', () => {
  const size = (value: number) => ({ name: 'size', dataset: '', value, best: value, unit: 'bytes' })
  const [group] = groupOverSeeds([
    run('2SSP 50 %, seed 0', { seed: 0, perplexity: 100 }),
    run('again', { seed: 0, perplexity: 10 }),
    run('2SSP 50 %, seed 1', { seed: 1, measures: [size(100), measured(12)] }),
    run('2SSP 50 %, seed 2', { seed: 2, measures: [size(102)] }),
  ])
  const equal = groupOverSeeds([0, 1, 2].map((seed) => run(`${seed}`, { seed, perplexity: 372.0412345 })))
  expect(equal[0]?.measures.get('perplexity/wikitext2')?.spread).toBe(1)
  expect(group?.name).toBe('2SSP 50 %, 3 seeds')
  expect(group?.measures.get('size')).toEqual({ mean: 101, spread: null, count: 2, factor: false })
})

test('seeds that were measured on other windows make a mean of their own', () => {
  const on = (seed: number, hash: string) => run(`seed ${seed}`, { seed, measures: [measured(10 + seed, hash)] })
  const groups = groupOverSeeds([on(0, 'a'), on(1, 'b'), on(2, 'a')])
  expect(groups.map((group) => group.runs.map(({ seed }) => seed))).toEqual([[0, 2], [1]])
})

test('a factor of 333 over seeds is no noise, as no seed comes near', () => {
  const values = [2000, 3000, 21_000]
  const runs = [
    run('dense', { method: 'dense', perplexity: 26 }),
    ...values.map((perplexity, seed) => run(`pruned ${seed}`, { seed, perplexity })),
  ]
  const [dense, pruned] = groupOverSeeds(runs)
  const difference = dense && pruned && differenceOf(pruned, dense, { name: 'perplexity', dataset: 'wikitext2' })
  // The arithmetic mean, 333 times 26, has a standard error of 6,174: two of them reach below 26.
  expect(difference).toMatchObject({ clear: true, factor: true, unit: 'seed', count: 3 })
  expect(difference?.value).toBeCloseTo((2000 * 3000 * 21_000) ** (1 / 3) / 26, 6)
  expect(difference?.low).toBeGreaterThan(8)
})

test('a seed that measured nothing does not count, nor does it replace one that did', () => {
  const [group] = groupOverSeeds([
    run('2SSP 50 %, seed 0', { seed: 0, perplexity: 100 }),
    run('failed again', { seed: 0, measures: [] }),
    run('failed', { seed: 1, measures: [] }),
  ])
  expect([group?.seeds, group?.name, group?.runs.length]).toEqual([1, '2SSP 50 %, seed 0', 3])
  expect(group?.measures.get('perplexity/wikitext2')).toMatchObject({ mean: 100, count: 1 })
  expect(groupOverSeeds([0, 1].map((seed) => run(`${seed}`, { seed, measures: [] })))[0]?.seeds).toBe(2)
})
