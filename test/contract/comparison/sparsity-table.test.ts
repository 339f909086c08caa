import { expect, test } from 'vitest'
import { groupOverSeeds } from '#contract/comparison/seeds.ts'
import { bestOfEach, sparsityTable } from '#contract/comparison/sparsity-table.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { toCsv, toLatex, toMarkdown } from '#services/comparison/table-text.ts'

const column = { id: 'perplexity/test', name: 'perplexity', dataset: 'test', unit: '', lowerIsBetter: true }

function run(method: string, nominal: number, value: number, more: Partial<RunEntry> = {}): RunEntry {
  const losses = [-0.1, 0, 0.1].map((own) => Math.log(value) + own + (method === 'dense' ? 0 : (0.001 * own * nominal * value) / 20))
  const measures = [{ name: 'perplexity', dataset: 'test', value, best: value, unit: '', on: { hash: 'test', count: 3 }, losses }]
  const model = { id: 'm', name: 'tiny' }
  return {
    name: method,
    method,
    nominal,
    reached: nominal,
    seed: 0,
    model,
    fingerprint: null,
    lineage: { model: more.model?.id ?? 'm', content: null, pruned: false },
    parameters: {},
    measures,
    ...more,
  } as RunEntry
}

const runs = [
  run('dense', 0, 10),
  run('2ssp', 0.25, 20, { seed: 0 }),
  run('2ssp', 0.25, 20.2, { seed: 1 }),
  run('shortgpt', 0.25, 30),
  run('shortgpt', 0.375, 5, { reached: 0.333 }),
  run('2ssp', 0.375, 40, { reached: 0.3751 }),
]

test('a row for each method and a column for each sparsity, with mean and deviation over seeds and the best marked', () => {
  const { columns, rows } = sparsityTable([...runs].reverse(), column)
  expect(columns.map(({ label }) => label)).toEqual(['Method', '0 %', '25 %', '37.5 %', 'Rank'])
  expect(rows.map(([title]) => title?.value)).toEqual(['Dense', '2SSP', 'ShortGPT'])
  // Student's interval of two seeds: 12.7062 standard errors of the logarithms' mean.
  const mean = Math.sqrt(20 * 20.2)
  const width = 1.01 ** (12.7062 / 2)
  expect(rows[1]?.[2]).toEqual({
    value: expect.closeTo(mean, 9),
    spread: expect.closeTo(1.01 ** Math.SQRT1_2, 9),
    factor: true,
    low: expect.closeTo(mean / width, 4),
    high: expect.closeTo(mean * width, 4),
    count: 2,
    best: true,
  })
  expect(rows[2]?.[2]).toMatchObject({ value: 30, best: false })
  expect(rows[0]?.[1]).toMatchObject({ value: 10, best: false })
})

test('where nothing shows how much results vary, the better number has the better rank', () => {
  const bare = (method: string, value: number) => {
    const {
      measures: [measure],
      ...rest
    } = run(method, 0.25, value)
    const { losses: _, ...known } = measure as RunEntry['measures'][number]
    return { ...rest, measures: [known] } as RunEntry
  }
  const { rows } = sparsityTable([bare('2ssp', 20), bare('shortgpt', 30), bare('gates', 10)], column)
  expect(rows.map(([title, cell, rank]) => [title?.value, cell?.best, rank?.value])).toEqual([
    ['2SSP', false, 2],
    ['ShortGPT', false, 3],
    ['Gates', true, 1],
  ])
})

test('what missed its sparsity by more than the tolerance says what it reached and beats nothing', () => {
  const { rows } = sparsityTable(runs, column)
  const missed = { value: 5, spread: null, factor: true, count: 1, best: false, note: 'at 33.3 %, n = 1' }
  expect(rows[2]?.[3]).toEqual({ ...missed, low: expect.any(Number), high: expect.any(Number) })
  const best = bestOfEach(groupOverSeeds(runs), column).map(({ best: leaders, rivals }) => [
    leaders[0]?.runs[0]?.nominal,
    leaders.map(({ name }) => name).join(),
    rivals,
  ])
  expect(best).toEqual([
    [0.25, '2ssp, 2 seeds', 2],
    [0.375, '2ssp', 1],
  ])
})

test('models do not compete with each other, and options that differ at one sparsity make rows of their own', () => {
  const other = { id: 'n', name: 'small' }
  const alpha = (value: number) => ({ parameters: { alpha: value, 'amount.sparsity': 0.5 } })
  const table = sparsityTable(
    [
      run('2ssp', 0.5, 9, { model: other }),
      run('2ssp', 0.5, 50, alpha(1)),
      run('2ssp', 0.5, 60, alpha(2)),
      run('2ssp', 0.25, 30, alpha(1)),
    ],
    column,
    () => 'Balance',
  )
  expect(table.rows.map(([model, title]) => [model?.value, title?.value])).toEqual([
    ['small', '2SSP'],
    ['tiny', '2SSP, balance 1'],
    ['tiny', '2SSP, balance 2'],
  ])
  expect(table.rows.map((row) => row[3]?.best)).toEqual([false, true, false])
})

test('444 ×/÷ 1.15 is not better than 460 ×/÷ 1.6: both are bold and tied, and two results on other windows do not compete', () => {
  const seeds = (method: string, mean: number, factor: number) =>
    [-1, 0, 1].map((power, seed) => run(method, 0.5, mean * factor ** power, { seed }))
  const some = [...seeds('2ssp', 444, 1.15), ...seeds('shortgpt', 460, 1.6), ...seeds('blockpruner', 2000, 1.1)]
  const { rows, caption } = sparsityTable(some, column)
  const cells = rows.map((row) => [row[0]?.value, row[1]?.best, row[1]?.tied])
  expect(cells).toEqual([
    ['2SSP', true, true],
    ['ShortGPT', true, true],
    ['BlockPruner, whole blocks', false, undefined],
  ])
  expect(rows.map((row) => row.at(-1)?.value)).toEqual([1, 1, 3])
  expect(caption).toContain('with all that do not differ clearly from it (paired 95 % intervals)')
  const elsewhere = some.map((one) => ({
    ...one,
    measures: one.measures.map((measure) => ({ ...measure, on: { hash: one.method, count: 3, sequenceLength: 64 } })),
  }))
  const apart = sparsityTable(elsewhere, column)
  expect(apart.rows.map((row) => row[1]?.best)).toEqual([false, false, false])
  expect(apart.columns.map(({ label }) => label)).not.toContain('Rank')
  expect(apart.caption).not.toContain('Bold')
  expect(apart.notes).toEqual([
    'Not compared with the others by perplexity (test): shortgpt, 3 seeds; blockpruner, 3 seeds (measured on other text).',
  ])
})

test('a table says what it compares: the model, the windows, the seeds, and which method looked at fewer windows than asked', () => {
  const used = (windows: number) => ({ source: 'c4', revision: null, sequenceLength: 64, windows, seed: 0, hash: 'c4' })
  const asked = { parameters: { 'calibration.windows': 8 } }
  const some = [
    { ...run('2ssp', 0.5, 20, asked), calibration: used(8) },
    { ...run('2ssp', 0.5, 21, { ...asked, seed: 1 }), calibration: used(8) },
    { ...run('blockpruner', 0.5, 30, asked), calibration: used(1) },
  ].map((one) => ({
    ...one,
    measures: one.measures.map((measure) => ({ ...measure, on: { hash: 'test', count: 3, sequenceLength: 64 } })),
  }))
  const { caption, notes } = sparsityTable(some, column)
  expect(caption).toBe(
    'Perplexity of tiny on test (3 windows of 64 tokens without BOS) by method and sparsity; lower is better. Geometric means over 2 seeds. Brackets: the 95 % interval, over seeds where there are several, else over windows or questions. Bold: the best within 1 percentage point of the sparsity, with all that do not differ clearly from it (paired 95 % intervals); a sole result is not marked.',
  )
  expect(notes).toContain('Fewer calibration windows than requested: BlockPruner, whole blocks (1 of 8).')
})

test('two experiments on other windows make rows of their own: no result is lost, and each competes with its own', () => {
  const on = (count: number, seeds: number[], base: number) =>
    ['2ssp', 'shortgpt'].flatMap((method, at) =>
      seeds.map((seed) => {
        const { measures, ...rest } = run(method, 0.5, base + 50 * at + seed / 10, { seed, id: `${method} ${count} ${seed}` })
        const shape = { hash: `${count}`, count, sequenceLength: 64 }
        return { ...rest, measures: measures.map((measure) => ({ ...measure, on: shape })) } as RunEntry
      }),
    )
  const { columns, rows } = sparsityTable([...on(3, [0, 1, 2], 20), ...on(6, [0, 1], 60)], column)
  expect(rows.map((row) => [row[0]?.value, Math.floor(Number(row[1]?.value)), row[1]?.best, row.at(-1)?.value])).toEqual([
    ['2SSP (on 3 windows of 64 tokens)', 20, true, 1],
    ['ShortGPT (on 3 windows of 64 tokens)', 70, false, 2],
    ['2SSP (on 6 windows of 64 tokens)', 60, true, 1],
    ['ShortGPT (on 6 windows of 64 tokens)', 110, false, 2],
  ])
  expect(columns.at(-1)?.label).toBe('Rank')
})

test('two methods, three sparsities and three seeds: equal seeds are one result, and ranks count only what both reach', () => {
  const [seeds, sparsities] = [
    [0, 1, 2],
    [0.25, 0.375, 0.5],
  ]
  const some = sparsities.flatMap((nominal) => [
    ...seeds.map((seed) => run('2ssp', nominal, 40 * nominal + seed, { seed, name: `2SSP ${100 * nominal} %, seed ${seed}` })),
    // It removes whole blocks of 12, and the seeds agree on which.
    ...seeds.map((seed) =>
      run('shortgpt', nominal, 300 * nominal, {
        seed,
        name: `ShortGPT ${100 * nominal} %, seed ${seed}`,
        reached: nominal === 0.375 ? 5 / 12 : nominal,
      }),
    ),
  ])
  const { columns, rows, caption, notes } = sparsityTable(some, column)
  expect(columns.at(-1)?.label).toBe('Rank')
  expect(rows.map((row) => row.at(-1)?.value)).toEqual([1, 2])
  expect(rows[1]?.map(({ value, spread, note }) => [value, spread ?? null, note]).slice(1, 4)).toEqual([
    [75, null, 'n = 1'],
    [112.5, null, 'at 41.7 %, n = 1'],
    [150, null, 'n = 1'],
  ])
  expect(rows[0]?.[1]).toMatchObject({ factor: true, low: expect.any(Number), high: expect.any(Number), best: true })
  expect(caption?.split('. ')).toHaveLength(4)
  expect(notes).toEqual([
    'Rank: 1, and one more for each result that is clearly better; the mean over what all reach (25 % and 50 %). Not ranked: ShortGPT 37.5 % reaches 41.7 %.',
    'All seeds led to the same model, so they count as one result (n = 1): ShortGPT 25 %; ShortGPT 37.5 %; ShortGPT 50 %.',
  ])
})

test('a mean of fewer results than the others says of how many, and a sole result is not marked', () => {
  const seeds = (method: string, nominal: number, value: number, of: number) =>
    Array.from({ length: of }, (_, seed) => run(method, nominal, value + seed, { seed }))
  const some = [run('dense', 0, 10), ...seeds('2ssp', 0.25, 20, 3), ...seeds('2ssp', 0.5, 40, 2), ...seeds('shortgpt', 0.25, 60, 3)]
  const table = sparsityTable(some, column)
  const facts = table.rows.map((row) => row.slice(1, 4).map(({ count, note, best }) => [count, note, best]))
  expect(facts).toEqual([
    [[undefined, undefined, false], Array(3).fill(undefined), Array(3).fill(undefined)],
    [Array(3).fill(undefined), [3, undefined, true], [2, 'n = 2', false]],
    [Array(3).fill(undefined), [3, undefined, false], Array(3).fill(undefined)],
  ])
  expect(table.caption).toMatch(/; a sole result is not marked\.$/)
  expect(toMarkdown(table)).toMatch(/\| 40\.\d+ \\\[[^|]* \(n = 2\) \|/)
  expect(toLatex(table)).toMatch(/& 40\.\d+ \[[^&]* \(n = 2\) /)
  const [header = '', , twoStage = ''] = toCsv(table).split('\r\n')
  const [titles, values] = [header.split(','), twoStage.split(',')]
  expect(['25 % results', '50 % results'].map((title) => values[titles.indexOf(title)])).toEqual(['3', '2'])
  const equal = sparsityTable([...seeds('2ssp', 0.25, 20, 2), ...seeds('shortgpt', 0.25, 60, 2)], column)
  expect(equal.rows.flat().filter(({ count, note }) => count ?? note)).toEqual([])
})

test('a row of a repaired and recovered plan says so, and not which settings of a repair others lack', () => {
  const repair = { 'repair.kind': 'in-order', 'repair.calibration.source': 'mixed', 'repair.calibration.windows': 32 }
  const recovery = { 'recover.text.source': 'mixed', 'recover.amount.tokens': 100_000 }
  const types: Record<string, string>[] = [{}, { weights: 'Q4_K_M' }]
  const weighed = types.flatMap((weights, at) =>
    [{}, repair, recovery, { ...repair, ...recovery }].map((treated, to) =>
      run('gates', 0.25, 20 + at + 2 * to, { parameters: { ...treated, ...weights } }),
    ),
  )
  expect(sparsityTable(weighed, column).rows.map(([title]) => title?.value)).toEqual([
    'Gates, weights as computed',
    'Gates, weights Q4_K_M',
    'Gates, repaired block by block, weights as computed',
    'Gates, repaired block by block, weights Q4_K_M',
    'Gates, recovered, weights as computed',
    'Gates, recovered, weights Q4_K_M',
    'Gates, repaired block by block, recovered, weights as computed',
    'Gates, repaired block by block, recovered, weights Q4_K_M',
  ])
})
