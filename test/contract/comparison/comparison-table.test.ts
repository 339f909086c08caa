import { expect, test } from 'vitest'
import { tableTexts } from '#contract/comparison/cell-text.ts'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { comparisonTable } from '#contract/comparison/comparison-table.ts'
import { differenceOf } from '#contract/comparison/difference.ts'
import { columnLabel } from '#contract/comparison/measure-columns.ts'
import { groupEach, groupOverSeeds, intervalOf } from '#contract/comparison/seeds.ts'
import { sparsityTables } from '#contract/comparison/sparsity-table.ts'

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

test('results compete only at one sparsity, a sole one and a size are not marked, and the caption says so', () => {
  const at = (id: string, reached: number, perplexity: number, more: Partial<ComparedRun> = {}) => {
    const size = { name: 'parameters', dataset: '', value: 1000 * (1 - reached), best: 0, unit: 'parameters' }
    return run(id, { method: id, nominal: reached, reached, measures: [measured(perplexity), size], ...more })
  }
  const table = comparisonTable(
    [
      at('2ssp', 0.25, 20),
      at('shortgpt', 0.25, 30, { reached: 0.2402 }),
      at('gates', 0.375, 1319),
      // Asked for 37.5 %, it reached what two others did.
      at('blockpruner', 0.375, 60, { reached: 0.5 }),
      at('slicegpt', 0.5, 60, { reached: 0.4998 }),
      at('evopress', 0.5, 90),
    ],
    null,
    false,
  )
  expect(table.rows.map((row) => row.slice(-2).map(({ best, tied }) => tied ?? best))).toEqual([
    [true, false],
    [false, false],
    [false, false],
    [true, false],
    [true, false],
    [false, false],
  ])
  // Leaders at another sparsity share no place with 2SSP.
  expect(table.rows.map((row) => row.at(-2)?.tied ?? false)).toEqual([false, false, false, true, true, false])
  expect(table.caption).toContain(
    'Bold: at each sparsity (within 1 percentage point), the best of those that can be compared, with all that do not differ clearly from it (paired 95 % intervals); sizes and results alone at their sparsity are not marked.',
  )
  expect(comparisonTable([at('2ssp', 0.25, 20), at('gates', 0.375, 30)], null, false).caption).not.toContain('Bold')
})

test('perplexities compete only among models that were measured on the same tokens', () => {
  const of = (id: string, model: string, hash: string, perplexity: number) => {
    return run(id, { model: { id: model, name: model }, measures: [measured(perplexity, hash)] })
  }
  const runs = [
    of('a', 'large', '1', 20),
    of('b', 'large', '1', 30),
    of('c', 'small', '1', 40),
    of('d', 'other', '2', 5),
    of('e', 'other', '2', 6),
  ]
  const best = (some: ComparedRun[]) => comparisonTable(some, null, false).rows.map((row) => row.at(-1)?.best)
  expect(best(runs)).toEqual([true, false, false, true, false])
  expect(best(runs.slice(2, 4)), 'alone in its group').toEqual([false, false])
  expect(comparisonTable(runs, null, false).notes).toEqual([
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
  const equal = groupOverSeeds([0, 1, 2].map((seed) => run(`ShortGPT 50 %, seed ${seed}`, { seed, perplexity: 372.0412345 })))
  expect(equal[0]).toMatchObject({ name: 'ShortGPT 50 %, 3 equal seeds', seeds: 1, equalSeeds: 3 })
  expect(equal[0]?.measures.get('perplexity/wikitext2')).toEqual({ mean: 372.0412345, spread: null, count: 1, factor: true })
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

test('a caption explains only what the table has, and repeated timings have no interval', () => {
  const timed = (seed: number) => ({ name: 'inference time', dataset: '', value: 20 + seed, best: 20, unit: 'ms', error: 2 })
  const captionOf = (...runs: ComparedRun[]) => comparisonTable(runs, null, true).caption
  expect(captionOf(run('a', { perplexity: 10 }))).toBe(
    'Results of tiny: perplexity (wikitext2) on 3 questions. Brackets: the 95 % interval over windows or questions.',
  )
  expect(captionOf(run('a', { measures: [timed(0)] }))).toBe('Results of tiny. ±: how far repeated timings differ.')
  const [cell] = comparisonTable([run('a', { measures: [timed(0)] })], null, true).rows[0]?.slice(-1) ?? []
  expect([cell?.spread, cell?.low]).toEqual([2, undefined])
  const seeds = [0, 1].map((seed) => run(`${seed}`, { seed, measures: [timed(seed), measured(10 + seed)] }))
  expect(captionOf(...seeds)).toBe(
    'Results of tiny: perplexity (wikitext2) on 3 questions. Means, geometric for perplexities, over 2 seeds, with the 95 % interval in brackets.',
  )
  const far = [0, 1].map((seed) => run(`${seed}`, { seed, measures: [measured(10 + 20 * seed)] }))
  expect(tableTexts(comparisonTable(far, null, true))[0]?.at(-1)).toBe('17 ×/÷ 2.17')
  expect(captionOf(...far)).toContain('×/÷: the deviation over seeds, where the interval is wider than a factor of 10 up and down.')
})

test('equal seeds are one result in tests too, so their agreement does not narrow an interval', () => {
  const wide = [0, 1, 2].map((seed) => run(`a ${seed}`, { seed, perplexity: 10 * (1 + seed / 10) }))
  const equal = [0, 1, 2].map((seed) => run(`b ${seed}`, { seed, perplexity: 13, method: 'shortgpt' }))
  const [first, second, once] = groupOverSeeds([...wide, ...equal, run('c', { perplexity: 13, method: 'evopress' })])
  const column = { name: 'perplexity', dataset: 'wikitext2' }
  const difference = first && second && differenceOf(first, second, column)
  expect(difference).toMatchObject({ unit: 'seed', count: 3 })
  expect(difference).toEqual(first && once && differenceOf(first, once, column))
})

test('seeds of one size or speed are put together, although each reached another sparsity', () => {
  const asked = (seed: number, speed: number) =>
    run(`${speed} ${seed}`, { seed, nominal: 0.49 + seed / 1000, perplexity: 10 + seed, parameters: { 'amount.tokensPerSecond': speed } })
  expect(groupOverSeeds([asked(0, 45), asked(1, 45), asked(0, 60)]).map(({ seeds }) => seeds)).toEqual([2, 1])
})

test('an interval is of windows where a perplexity has one seed, and never leaves what a measure can be', () => {
  const [only] = groupEach([run('a', { perplexity: 10 })])
  const { low = 0, high = 0 } = (only && intervalOf(only, 'perplexity/wikitext2')) ?? {}
  // Losses of −0.099, 0.001 and 0.101 around ln 10: a standard error of 0.1 / √3 with two degrees of freedom.
  expect(Math.log(high / 10)).toBeCloseTo((4.30265 * 0.1001) / Math.sqrt(3), 3)
  expect(low * high).toBeCloseTo(100, 6)
  const of = (name: string, unit: string, ...values: number[]) =>
    groupOverSeeds(values.map((value, seed) => run(`s${seed}`, { seed, measures: [{ name, dataset: '', value, best: value, unit }] })))
  const [times] = of('pruning time', 's', 1, 60, 130)
  const [shares] = of('accuracy', 'share', 0.8, 0.95, 0.99)
  expect(times && intervalOf(times, 'pruning time')?.low).toBe(0)
  expect(shares && intervalOf(shares, 'accuracy')?.high).toBe(1)
})

test('where results of other windows have one heading, each says its windows', () => {
  const on = (id: string, count: number, beginToken?: boolean) => {
    const taken = { ...measured(10 + count, `${count}`), on: { hash: `${count}`, count, sequenceLength: 64, beginToken } }
    return run(id, { method: id, reached: 0.4, measures: [taken] })
  }
  const notesOf = (...runs: ComparedRun[]) => comparisonTable(runs, null, false).rows.map((row) => row.at(-1)?.note)
  expect(notesOf(on('2ssp', 4), on('shortgpt', 6))).toEqual(['on 4 windows of 64 tokens', 'on 6 windows of 64 tokens'])
  expect(notesOf(on('2ssp', 4), on('shortgpt', 4))).toEqual([undefined, undefined])
  expect(notesOf(on('2ssp', 4, true), on('shortgpt', 4))).toEqual([
    'on 4 windows of 64 tokens that begin with BOS',
    'on 4 windows of 64 tokens without BOS',
  ])
  const { rows = [] } = sparsityTables([on('2ssp', 4), on('shortgpt', 6)])[0]?.table ?? {}
  expect(rows.map((row) => [row[0]?.value, row.at(-1)?.note])).toEqual([
    ['2SSP (on 4 windows of 64 tokens)', 'at 40 %'],
    ['ShortGPT (on 6 windows of 64 tokens)', 'at 40 %'],
  ])
})

test('a speed-up says over what', () => {
  const labelOf = (dataset: string) => columnLabel({ id: '', name: 'speed-up', dataset, unit: '×', lowerIsBetter: false })
  expect(labelOf('decode in llama.cpp')).toBe('speed-up over the dense F16 file (decode in llama.cpp) [×]')
  expect(labelOf('prefill')).toBe('speed-up over the dense model (prefill) [×]')
})
