import { expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compare.ts'
import { worthOf } from '#contract/comparison/verdict.ts'

const calibrated = { 'calibration.source': 'c4' }

function run(
  name: string,
  megabytes: number,
  prose: number | null,
  changes: { seed?: number; c4?: number; loops?: number; parameters?: object } = {},
) {
  const { seed = 0, c4 = 10, loops, parameters = calibrated } = changes
  const texts = [['c4', c4] as const, ...(prose === null ? [] : [['prose', prose] as const])]
  return {
    id: `${name}/${seed}`,
    file: name,
    status: 'done',
    model: { id: 'model-1', name: 'tiny' },
    fingerprint: null,
    method: name.startsWith('dense') ? 'dense' : '2ssp',
    nominal: 0.5,
    seed,
    parameters: { ...(name.includes('Q') ? { weights: name.split(' ').at(-1) } : {}), ...parameters },
    evaluation: texts.map(([source]) => ({ source })),
    measures: [
      { name: 'size', dataset: '', value: megabytes * 1e6, unit: 'bytes' },
      ...texts.map(([dataset, value]) => ({ name: 'perplexity', dataset, value, unit: '' })),
      ...(loops === undefined ? [] : [{ name: 'looping answers', dataset: 'prose', value: loops, unit: 'share' }]),
    ],
  } as unknown as ComparedRun
}

test('the smallest dense file that beats every pruned one says: do not prune', () => {
  // Calibrated text prefers pruning and must not decide.
  const found = worthOf([run('dense Q3_K_M', 94, 31.2, { c4: 99 }), run('2SSP Q8_0', 94, 38.9), run('2SSP Q4_0', 100, 52)])
  expect(found.answer).toBe('do not prune')
  expect(found.sentence).toBe(
    'Do not prune. At 94 MB, dense Q3_K_M is better than every pruned file (perplexity 31.2 against 38.9 on prose, text no choice saw).',
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
    'At 50 MB, 2SSP Q3_K_M is better than dense IQ2_Q, the best dense file of its size (perplexity 246 against 345 on prose, text no choice saw). Pruning wins for 1 of 1 pruned files.',
  )
  const loops = (pruned: number) =>
    worthOf([run('dense', 200, 30, { loops: 1 / 6 }), ...runs.slice(1, 3), run('2SSP Q3_K_M', 50, 246, { loops: pruned })])
  expect([loops(1 / 6).answer, loops(4 / 6).answer]).toEqual(['prune', 'do not prune'])
  expect(loops(4 / 6).sentence).toContain('67 % of its answers end in a loop, more than the dense model')
})

test('less than 1 % is a tie', () => {
  expect(worthOf([run('dense Q4_0', 80, 40), run('2SSP Q8_0', 80, 39.7)])).toMatchObject({
    answer: 'no difference',
    sentence: 'At 80 MB, 2SSP Q8_0 and dense Q4_0 do not differ clearly (perplexity 39.7 against 40 on prose, text no choice saw).',
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
  expect(alone).toMatchObject({ answer: 'unknown', sentence: 'No verdict: no pruned file has a dense rival of its size.' })
  expect(alone.untested[0]).toBe('No dense file is as small as 2SSP Q4_0 (50 MB).')
  expect(worthOf([run('dense Q4_0', 80, null), run('2SSP Q4_0', 80, null)])).toMatchObject({
    answer: 'unknown',
    duels: [{ vetoed: false }],
  })
})

test('the corpus decides what is unseen, not the name of a split or of a file', () => {
  const decides = (seen: string, measured: string, hash?: string) => {
    const one = run('2SSP Q4_0', 80, 40, { parameters: { 'calibration.source': seen } })
    const calibration = { source: seen, hash: 'a' } as ComparedRun['calibration']
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
  expect([decides('/texts/a.txt', '/texts/b.txt', 'a'), decides('/texts/a.txt', '/texts/b.txt', 'c')]).toEqual([false, true])
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
