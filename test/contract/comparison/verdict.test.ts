import { expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compare.ts'
import { costsOf } from '#contract/comparison/costs.ts'
import { worthOf } from '#contract/comparison/verdict.ts'
import { isPruned, runsByModel } from '#contract/comparison/worth-runs.ts'

const calibrated = { 'calibration.source': 'c4' }

function run(
  name: string,
  megabytes: number,
  prose: number | null,
  changes: { seed?: number; c4?: number; loops?: number; milliseconds?: number; parameters?: object } = {},
) {
  const { seed = 0, c4 = 10, loops, milliseconds, parameters = calibrated } = changes
  const texts = [['c4', c4] as const, ...(prose === null ? [] : [['prose', prose] as const])]
  return {
    id: `${name}/${seed}`,
    file: name,
    status: 'done',
    model: { id: 'model-1', name: 'tiny' },
    fingerprint: null,
    method: name.startsWith('dense') ? 'dense' : '2ssp',
    nominal: Number(/(\d+) %/.exec(name)?.[1] ?? 50) / 100,
    seed,
    parameters: { ...(name.includes('Q') ? { weights: name.split(' ').at(-1) } : {}), ...parameters },
    evaluation: texts.map(([source]) => ({ source })),
    measures: [
      { name: 'size', dataset: '', value: megabytes * 1e6, unit: 'bytes' },
      ...texts.map(([dataset, value]) => ({ name: 'perplexity', dataset, value, unit: '' })),
      ...(loops === undefined ? [] : [{ name: 'looping answers', dataset: 'prose', value: loops, unit: 'share' }]),
      ...(milliseconds === undefined ? [] : [{ name: 'time to first token', dataset: '512 tokens', value: milliseconds, unit: 'ms' }]),
    ],
  } as unknown as ComparedRun
}

test('the smallest dense file that beats every pruned one says: do not prune', () => {
  // Calibrated text prefers pruning and must not decide.
  const found = worthOf([run('dense Q3_K_M', 94, 31.2, { c4: 99 }), run('2SSP Q8_0', 94, 38.9), run('2SSP Q4_0', 100, 52)])
  expect(found.answer).toBe('do not prune')
  expect(found.sentence).toBe(
    'Do not prune. At 94 MB, dense Q3_K_M is better than every pruned file (perplexity 31.2 against 38.9 on prose, which pruning never saw).',
  )
  const small = worthOf([run('dense Q3_K_M', 94, 31.2), run('2SSP Q8_0', 94, 38.9), run('2SSP Q4_0', 50, 52)])
  expect(small.sentence).toContain('every pruned file, smaller ones without a rival included (')
  expect(small.untested[0]).toContain('2SSP Q4_0 (50 MB)')
  expect(found.fronts.map(({ kind, decides, rows }) => [kind, decides, rows.map(({ name }) => name)])).toEqual([
    ['c4', false, ['2SSP Q8_0']],
    ['prose', true, ['dense Q3_K_M']],
  ])
})

test('a clear win says at which size and against which file, unless the answers loop', () => {
  const runs = [run('dense', 200, 30), run('dense IQ2_Q', 50.4, 345), run('dense Q2_K', 51, 90), run('2SSP Q3_K_M', 50, 246)]
  const found = worthOf(runs)
  expect(found.answer).toBe('prune')
  // 50.4 MB is within 1 % of 50 MB, 51 MB is not.
  expect(found.sentence).toBe(
    'At 50 MB, 2SSP Q3_K_M is better than dense IQ2_Q, the best dense file of its size (perplexity 246 against 345 on prose, which pruning never saw). Pruning wins for 1 of 1 pruned files.',
  )
  const loops = (pruned: number) =>
    worthOf([run('dense', 200, 30, { loops: 1 / 6 }), ...runs.slice(1, 3), run('2SSP Q3_K_M', 50, 246, { loops: pruned })])
  expect([loops(1 / 6).answer, loops(4 / 6).answer]).toEqual(['prune', 'do not prune'])
  expect(loops(4 / 6).sentence).toContain('67 % of its answers end in a loop, more than the dense model')
})

test('less than 1 % is a tie', () => {
  expect(worthOf([run('dense Q4_0', 80, 40), run('2SSP Q8_0', 80, 39.7)])).toMatchObject({
    answer: 'no difference',
    sentence: 'At 80 MB, 2SSP Q8_0 and dense Q4_0 do not differ clearly (perplexity 39.7 against 40 on prose, which pruning never saw).',
  })
  expect(worthOf([run('dense Q4_0', 80, 40), run('2SSP Q8_0', 80, 39.5)]).answer).toBe('prune')
})

test('a difference within twice the standard error over seeds is noise', () => {
  const pruned = (...values: number[]) => values.map((value, seed) => run('2SSP Q8_0', 80, value, { seed }))
  // Seeds 34, 38, 42: deviation 4, standard error 4 / sqrt(3) = 2.31, so 38 is within 4.62 of 42 but not of 43.
  expect(worthOf([run('dense Q4_0', 80, 42), ...pruned(34, 38, 42)]).answer).toBe('no difference')
  expect(worthOf([run('dense Q4_0', 80, 43), ...pruned(34, 38, 42)]).answer).toBe('prune')
})

test('without a dense file as small, or without unseen text, there is no verdict', () => {
  const alone = worthOf([run('dense Q4_0', 80, 40), run('2SSP Q4_0', 50, 60)])
  expect(alone).toMatchObject({
    answer: 'unknown',
    sentence:
      'No verdict: no pruned file has a dense rival of its size. Dense files stay at 80 MB; 2SSP Q4_0 reaches 50 MB (perplexity 60 on prose, which pruning never saw).',
  })
  expect(alone.untested[0]).toBe('No dense file is as small as 2SSP Q4_0 (50 MB).')
  expect(worthOf([run('dense Q4_0', 80, null), run('2SSP Q4_0', 80, null)])).toMatchObject({
    answer: 'unknown',
    duels: [{ vetoed: false }],
  })
})

test('the corpus decides what is unseen, not the name of a split or of a file', () => {
  const decides = (seen: string, measured: string, hash?: string) => {
    const one = run('2SSP Q4_0', 80, 40, { parameters: { 'calibration.source': seen } })
    const calibration = { source: seen, hash: 'same windows' } as ComparedRun['calibration']
    const evaluation = [
      { source: 'c4', hash: 'b' },
      { source: measured, hash },
    ] as ComparedRun['evaluation']
    return worthOf([{ ...one, calibration, evaluation }]).fronts.at(-1)?.decides
  }
  expect(decides('/sample-model/calibration.txt', '/sample-model/test.txt')).toBe(false)
  expect(decides('/sample-model/calibration.txt', 'prose')).toBe(true)
  expect(decides('wikitext2', '/texts/wikitext-2/test-00000-of-00001.parquet')).toBe(false)
  // The same windows under another name.
  expect([decides('/texts/a.txt', '/texts/b.txt', 'same windows'), decides('/texts/a.txt', '/texts/b.txt', 'others')]).toEqual([
    false,
    true,
  ])
})

test('text of repair, of recovery and of importances does not decide either', () => {
  const decides = (parameters: object) => worthOf([run('2SSP Q4_0', 80, 40, { parameters })]).fronts.at(-1)?.decides
  expect(decides({})).toBe(true)
  expect(decides({ 'repair.calibration.source': 'prose' })).toBe(false)
  expect(decides({ 'recover.text.mix': '[{"source":"prose","share":1},{"source":"c4","share":1}]' })).toBe(false)
  const mixed = (name: string) => ({ ...run(name, 80, 40, { parameters: {} }), evaluation: [{ source: 'c4' }, { source: 'mixed' }] })
  const decided = ['2SSP Q4_0', '2SSP'].map((name) => worthOf([mixed(name) as ComparedRun]).fronts.at(-1)?.decides)
  expect(decided).toEqual([false, true])
})

/** SmolLM2-135M by 2SSP with repair: MB, and perplexity on WikiText-2 and on prose. */
const smol = [
  run('dense', 270, 25),
  run('dense Q4_K_M', 88, 30.1, { c4: 30.6 }),
  run('2SSP 50 % in Q8_0', 88, 194, { c4: 77.9 }),
  run('dense Q3_K_M', 76, 35.3, { c4: 35.6 }),
  run('2SSP 25 % in Q4_K_M', 73, 85.7, { c4: 45.2 }),
  run('dense Q2_K', 64, 61.3, { c4: 59.4 }),
  run('2SSP 25 % in Q3_K_M', 64, 104, { c4: 53.7 }),
  run('dense IQ2_M', 57, 104, { c4: 97.3 }),
  run('2SSP 50 % in Q4_K_M', 57, 196, { c4: 81.4 }),
]
const smallest = [run('dense IQ2_XXS', 50, 345, { c4: 308 }), run('2SSP 50 % in Q3_K_M', 50, 246, { c4: 98.1 })]

test('of a measured table, the sentence names the best pruned file, its rival and their numbers', () => {
  // 73 MB allows 73.7: Q3_K_M is too large, so Q2_K is the rival. Calibrated text alone would say: prune, 53.7 against 59.4.
  expect(worthOf(smol).sentence).toBe(
    'Do not prune. At 64 MB, dense Q2_K is better than every pruned file (perplexity 61.3 against 85.7 on prose, which pruning never saw).',
  )
  expect(worthOf([...smol, ...smallest]).sentence).toBe(
    'At 50 MB, 2SSP 50 % in Q3_K_M is better than dense IQ2_XXS, the best dense file of its size (perplexity 246 against 345 on prose, which pruning never saw). Pruning wins for 1 of 5 pruned files.',
  )
})

test('at equal time to the first token another file is the rival, and files that were not timed are named', () => {
  const timed = (name: string, megabytes: number, prose: number, milliseconds?: number) =>
    run(name, megabytes, prose, milliseconds === undefined ? {} : { milliseconds })
  const runs = [timed('dense Q8_0', 140, 31, 180), timed('2SSP 25 % in Q8_0', 110, 34, 120), timed('dense Q4_K_M', 88, 30.1)]
  const [, cost] = costsOf(runs, isPruned)
  const alone = worthOf(runs, cost)
  expect(alone.sentence).toBe(
    'No verdict: no pruned file has a dense rival at its speed. Dense files stay at 180 ms to the first token; 2SSP 25 % in Q8_0 reaches 120 ms to the first token (perplexity 34 on prose, which pruning never saw).',
  )
  expect(alone.untested).toContain('Time to first token (512 tokens) is not known for: dense Q4_K_M.')
  expect(worthOf(runs).sentence).toContain('At 88 MB, dense Q4_K_M is better than 2SSP 25 % in Q8_0')
  const quick = worthOf([...runs, timed('dense Q4_0', 90, 36, 121)], cost)
  expect(quick.sentence).toBe(
    'At 120 ms to the first token, 2SSP 25 % in Q8_0 is better than dense Q4_0, the best dense file at its speed (perplexity 34 against 36 on prose, which pruning never saw). Pruning wins for 1 of 1 pruned files.',
  )
  const apart = 'Times were taken in different runs. The machine may have been busier in some.'
  expect([quick, alone, worthOf(runs)].map(({ untested }) => untested.includes(apart))).toEqual([true, false, false])
  // The dense model as computed has no time in llama.cpp, yet its loops count.
  const looping = [
    run('dense', 270, 25, { loops: 0 }),
    run('dense Q4_0', 90, 36, { milliseconds: 121 }),
    run('2SSP 25 % in Q8_0', 110, 34, { milliseconds: 120, loops: 0.5 }),
  ]
  expect(worthOf(looping, cost).answer).toBe('do not prune')
  expect(costsOf(runs.slice(1), isPruned).map(({ id }) => id)).toEqual(['size'])
})

test('a dense file without one of the deciding texts is no rival, and the sentence does not call it too large', () => {
  const lacking = worthOf([run('dense Q2_K', 50, null), run('2SSP Q4_0', 120, 60)])
  expect(lacking.sentence).toBe('No verdict: no dense file was measured on every text that decides.')
  expect(lacking.untested).toEqual(['Looping answers: not tested for 2SSP Q4_0.'])
  const large = worthOf([run('dense Q2_K', 50, null), run('dense Q8_0', 140, 40), run('2SSP Q4_0', 120, 60)])
  expect(large.sentence).toContain('Dense files measured on every text that decides stay at 140 MB; 2SSP Q4_0 reaches 120 MB')
  expect(large.untested[0]).toBe('No dense file measured on every text that decides is as small as 2SSP Q4_0 (120 MB).')
  const bare = worthOf([run('dense Q4_0', 80, 40), run('2SSP Q4_0', 80, null)])
  expect(bare.sentence).toBe('No verdict: no pruned file was measured on every text that decides.')
})

test('unknown loops are blamed on the files that lack them', () => {
  const gaps = (dense: number | undefined, pruned: number | undefined) => {
    const looping = (loops: number | undefined) => (loops === undefined ? {} : { loops })
    return worthOf([run('dense', 80, 40, looping(dense)), run('2SSP Q4_0', 80, 40, looping(pruned))]).untested
  }
  expect(gaps(undefined, 0.1)).toEqual(['Looping answers: not tested for the dense model.'])
  expect(gaps(0.1, undefined)).toEqual(['Looping answers: not tested for 2SSP Q4_0.'])
  expect(gaps(0.1, 0.1)).toEqual([])
})

test('a task whose answers are written has a front of its own, which does not decide', () => {
  const exact = (one: ComparedRun, value: number): ComparedRun => ({
    ...one,
    measures: [
      ...one.measures,
      { name: 'exact match', dataset: 'gsm8k', value, unit: 'share', error: 0.01, best: value },
      { name: 'exact match, last number', dataset: 'gsm8k', value: 0.9, unit: 'share', best: 0.9 },
      // A subject is part of its task.
      { name: 'accuracy', dataset: 'mmlu_anatomy', value, unit: 'share', best: value },
    ],
  })
  const runs = [exact(run('dense Q3_K_M', 94, 31.2), 0.3), exact(run('2SSP Q8_0', 94, 28.9), 0)]
  const found = worthOf(runs)
  expect(found.answer).toBe('prune')
  expect(found.sentence).toContain('which pruning never saw). But it does worse on gsm8k (0 % against 30 %). Pruning wins')
  expect(found.fronts.find(({ kind }) => kind === 'gsm8k')).toMatchObject({
    measure: 'exact match',
    decides: false,
    rows: [{ name: 'dense Q3_K_M' }],
  })
  expect(found.rows.map(({ quality }) => quality.gsm8k?.mean)).toEqual([0.3, 0])
})

test('a smaller model is a rival, by the perplexities that were taken on the same windows', () => {
  const read = (one: ComparedRun, windows: string, model = one.model): ComparedRun => ({
    ...one,
    model,
    evaluation: one.evaluation.map((used) => ({ ...used, hash: `${used.source} ${windows}` })),
  })
  const sibling = { id: 'model-2', name: 'tinier' }
  const own = [run('dense Q4_0', 90, 50), run('2SSP Q8_0', 94, 38.9)].map((one) => read(one, 'same'))
  const smaller = (windows: string) => read(run('dense Q8_0', 80, 31), windows, sibling)
  expect(worthOf(own).answer).toBe('prune')
  expect(worthOf([...own, smaller('same')]).sentence).toBe(
    'Do not prune. At 80 MB, tinier, dense Q8_0 is better than 2SSP Q8_0 (perplexity 31 against 38.9 on prose, which pruning never saw).',
  )
  const apart = worthOf([...own, smaller('other')])
  expect(apart.answer).toBe('prune')
  expect(apart.untested).toContain('tinier was measured on other tokens, so its perplexity does not count.')
  // Only the pruned model's own dense run says how often answers may loop.
  const looping = [...own.slice(0, 1), read(run('2SSP Q8_0', 94, 30, { loops: 0.5 }), 'same')]
  const calm = (model: object) => read(run('dense', 200, 20, { loops: 0 }), 'same', { ...sibling, ...model })
  expect(worthOf([...looping, calm({})]).answer).toBe('prune')
  expect(worthOf([...looping, calm({ id: 'model-1' })]).answer).toBe('do not prune')
})

test('a verdict is about a model that was pruned, and runs that inspect others have none', () => {
  const made = (model: string, method: string) => ({ model: { id: model, name: model }, method }) as ComparedRun
  const counts = (...runs: ComparedRun[]) => [...runsByModel(runs)].map(([id, found]) => [id, found.runs.length])
  expect(counts(made('a', 'dense'), made('b', '2ssp'), made('a', '2ssp'), made('a', 'divergence'))).toEqual([
    ['a', 2],
    ['b', 1],
  ])
  expect(counts(made('a', 'dense'), made('b', '2ssp'))).toEqual([['b', 2]])
  expect(counts(made('a', 'dense'), made('b', 'dense'))).toEqual([
    ['a', 1],
    ['b', 1],
  ])
})
