import { expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { costsOf } from '#contract/comparison/costs.ts'
import { uniformNumbers } from '#contract/comparison/statistics.ts'
import { worthOf } from '#contract/comparison/verdict.ts'
import { type Verdict, verdictTexts } from '#contract/comparison/verdict-sentence.ts'
import { isPruned, runsByModel } from '#contract/comparison/worth-runs.ts'

const sentencesIn = (text: string) => text.match(/\.(?= |$)/g)?.length ?? 0

/** All of a verdict. Each part answers in one sentence, and says in at most two how sure it is. */
function verdictText(verdict: Pick<Verdict, 'parts'>): string {
  for (const { answer, sure } of verdict.parts) {
    expect(sentencesIn(answer), answer).toBe(1)
    expect(sentencesIn(sure), sure).toBeLessThanOrEqual(2)
  }
  return verdictTexts(verdict).join(' ')
}

const calibrated = { 'calibration.source': 'c4' }

interface Changes {
  seed?: number
  c4?: number
  loops?: string
  milliseconds?: number
  parameters?: object
  /** By how much losses differ from window to window, besides what all files share. */
  noise?: number
  windows?: string
}

/** Losses of eight windows with this perplexity. Files differ from each other in a pattern of their own. */
function lossesOf(perplexity: number, name: string, noise: number): number[] {
  const draw = uniformNumbers([...name].reduce((sum, letter) => (31 * sum + letter.charCodeAt(0)) % 65_521, 7))
  const own = Array.from({ length: 8 }, () => noise * (draw() - 0.5))
  const middle = own.reduce((sum, value) => sum + value, 0) / 8
  return own.map((value, window) => Math.log(perplexity) + value - middle + 0.3 * ((window % 4) - 1.5))
}

function run(name: string, megabytes: number, prose: number | null, changes: Changes = {}) {
  const { seed = 0, c4 = 10, loops, milliseconds, parameters = calibrated, noise = 0.02, windows = '8 × 512' } = changes
  const texts = [['c4', c4] as const, ...(prose === null ? [] : [['prose', prose] as const])]
  const on = (source: string) => ({ hash: `${source} ${windows}`, count: 8, sequenceLength: 512 })
  return {
    id: `${name}/${seed}`,
    file: name,
    status: 'done',
    createdAt: 1,
    model: { id: 'model-1', name: 'tiny' },
    fingerprint: null,
    lineage: { model: 'model-1', content: null, pruned: false },
    method: name.startsWith('dense') ? 'dense' : '2ssp',
    nominal: Number(/(\d+) %/.exec(name)?.[1] ?? 50) / 100,
    seed,
    parameters: { ...(name.includes('Q') ? { weights: name.split(' ').at(-1) } : {}), ...parameters },
    evaluation: texts.map(([source]) => ({ source, hash: on(source).hash })),
    measures: [
      { name: 'size', dataset: '', value: megabytes * 1e6, unit: 'bytes' },
      ...texts.map(([dataset, value]) => {
        const losses = lossesOf(value, `${name} ${seed}`, noise)
        return { name: 'perplexity', dataset, value, unit: '', on: on(dataset), losses }
      }),
      ...(loops === undefined ? [] : [loopsMeasure(loops)]),
      ...(milliseconds === undefined ? [] : [{ name: 'time to first token', dataset: '512 tokens', value: milliseconds, unit: 'ms' }]),
    ],
  } as unknown as ComparedRun
}

const loopsMeasure = (hits: string, hash = 'prompts') => ({
  name: 'looping answers',
  dataset: 'prose',
  value: [...hits].filter((hit) => hit === '1').length / hits.length,
  unit: 'share',
  on: { hash, count: hits.length },
  hits,
})

/** Answers of which the first `many` of `of` loop. */
const looping = (many: number, of = 60) => '1'.repeat(many) + '0'.repeat(of - many)

test('the smallest dense file that beats every pruned one says: do not prune', () => {
  // Calibrated text prefers pruning and must not decide.
  const found = worthOf([run('dense Q3_K_M', 94, 31.2, { c4: 99 }), run('2SSP Q8_0', 94, 38.9), run('2SSP Q4_0', 100, 52)])
  expect(found.answer).toBe('do not prune')
  expect(verdictText(found)).toMatch(
    /^Do not prune, as far as 8 windows show: at 94 MB, dense Q3_K_M is better than every pruned file\. Perplexity on prose: 31\.2 against 38\.9 of 2SSP Q8_0, ×0\.802 \(0\.79\d to 0\.81\d\) over 8 windows\. Measure 16 windows or more to be sure\. Decided on 8 windows of 512 tokens of prose, which pruning never saw\. Ranges are 95 % intervals\.$/,
  )
  const small = worthOf([run('dense Q3_K_M', 94, 31.2), run('2SSP Q8_0', 94, 38.9), run('2SSP Q4_0', 50, 52)])
  expect(verdictText(small)).toContain('better than every pruned file, even smaller ones. ')
  expect(small.untested[1]).toContain('2SSP Q4_0 (50 MB)')
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
  expect(verdictText(found)).toMatch(
    /^Prune, as far as 8 windows show: at 50 MB, 2SSP Q3_K_M is better than dense IQ2_Q\. Perplexity on prose: 246 against 345, ×0\.713 .*\) over 8 windows\. Measure 16 windows or more to be sure\. Your unpruned model has 200 MB; 2SSP Q3_K_M has 50 MB, and its perplexity on prose is 8\.2 times as high, ×8\.20 \(8\.1\d to 8\.2\d\)\. Dense IQ2_Q is the best dense file of its size\. Pruning wins for 1 of 1 pruned files\. Decided on 8 windows of 512 tokens of prose, which pruning never saw\. Ranges are 95 % intervals\.$/,
  )
  const loops = (rival: string, pruned: string, dense = looping(0)) =>
    worthOf([
      run('dense', 200, 30, { loops: dense }),
      run('dense IQ2_Q', 50.4, 345, { loops: rival }),
      run('2SSP Q3_K_M', 50, 246, { loops: pruned }),
    ])
  // The rival decides, not the model as computed, which never loops here.
  expect([loops(looping(20), looping(20)).answer, loops(looping(4), looping(20)).answer]).toEqual(['prune', 'do not prune'])
  expect(verdictText(loops(looping(4), looping(20)))).toMatch(
    /, but 33 % of its answers end in a loop, against 7 % of those of dense IQ2_Q\. Loops: \+27 points \(\+1\d to \+3\d\) over 60 answers\. Measure/,
  )
})

test('a veto needs enough answers to see what it claims', () => {
  const found = (rival: string, pruned: string) =>
    worthOf([run('dense Q4_0', 80, 50, { loops: rival }), run('2SSP Q8_0', 80, 40, { loops: pruned })])
  // Two loops more of 16 are a coin flip, and so are five; six are not.
  const answers = [2, 5, 6].map((more) => found(looping(2, 16), looping(2 + more, 16)).answer)
  expect(answers).toEqual(['prune', 'prune', 'do not prune'])
  expect(found(looping(2, 16), looping(4, 16)).untested).toContain(
    'Looping answers: 16 answers can show only differences of 38 points or more. Take 60 to see one of 10 points.',
  )
  const fewWindows = 'Only 8 windows of prose decided. They usually show differences of 18 % and more in perplexity; 16 windows show 11 %.'
  expect(found(looping(2), looping(4)).untested).toEqual([fewWindows])
  // Other prompts cannot be paired.
  const others = run('2SSP Q8_0', 80, 40)
  others.measures.push({ ...loopsMeasure(looping(60), 'other prompts'), best: 1 })
  const apart = worthOf([run('dense Q4_0', 80, 50, { loops: looping(0) }), others])
  expect([apart.answer, apart.untested]).toEqual([
    'prune',
    [fewWindows, 'Looping answers: not tested on the same prompts for 2SSP Q8_0 against dense Q4_0.'],
  ])
})

test('the windows decide what is a clear difference, not a fixed share', () => {
  const found = (prose: number, noise: number) => worthOf([run('dense Q4_0', 80, 40, { noise }), run('2SSP Q8_0', 80, prose, { noise })])
  expect(found(39.7, 0.2)).toMatchObject({ answer: 'no difference' })
  expect(verdictText(found(39.7, 0.2))).toMatch(
    /^At 80 MB, 2SSP Q8_0 and dense Q4_0 do not differ clearly\. Perplexity on prose: 39\.7 against 40, ×0\.99/,
  )
  expect(found(39.7, 0.001).answer).toBe('prune')
  expect(found(42, 0.4).answer).toBe('no difference')
  // Digits that another order of summation changes are none.
  expect(found(39.999, 1e-7).answer).toBe('no difference')
})

test('a difference must be larger than the spread over windows and than that over seeds', () => {
  const pruned = (noise: number, ...values: number[]) => values.map((value, seed) => run('2SSP Q8_0', 80, value, { seed, noise }))
  // Logarithms of 34, 38, 42 deviate by 0.106: with Student's 4.30 for three seeds, 38 is within a factor of 1.30.
  expect(worthOf([run('dense Q4_0', 80, 47), ...pruned(0.001, 34, 38, 42)]).answer).toBe('no difference')
  expect(worthOf([run('dense Q4_0', 80, 52), ...pruned(0.001, 34, 38, 42)]).answer).toBe('prune')
  expect(worthOf([run('dense Q4_0', 80, 52, { noise: 2 }), ...pruned(2, 38, 38.1, 38.2)]).answer).toBe('no difference')
})

test('without losses by window a difference is not judged, and the verdict says so', () => {
  const bare = (one: ComparedRun) => ({ ...one, measures: one.measures.map(({ losses: _, ...rest }) => rest) }) as ComparedRun
  const found = worthOf([run('dense Q4_0', 80, 60), bare(run('2SSP Q8_0', 80, 40))])
  expect(found.answer).toBe('no difference')
  expect(found.untested).toContain('No losses by window are known, so no difference can be judged: 2SSP Q8_0 on prose. Measure again.')
})

test('dense on 512-token windows is no rival of pruned on 2,048, nor one with BOS, in bfloat16, or of a replaced model', () => {
  const pruned = run('2SSP Q8_0', 80, 40)
  const dense = (change: (one: ComparedRun) => ComparedRun) => worthOf([change(run('dense Q4_0', 80, 60)), pruned])
  const taken = (on: object) => (one: ComparedRun) => ({
    ...one,
    measures: one.measures.map((measure) => (measure.on ? { ...measure, on: { ...measure.on, ...on } } : measure)),
  })
  const cases: [(one: ComparedRun) => ComparedRun, string][] = [
    [taken({ hash: 'other', count: 2, sequenceLength: 2048 }), 'measured on 2 windows of 2,048 tokens, not 8 windows of 512 tokens'],
    // The same tokens, cut into longer windows.
    [taken({ count: 2, sequenceLength: 2048 }), 'measured on 2 windows of 2,048 tokens, not 8 windows of 512 tokens'],
    [taken({ hash: 'other', beginToken: true }), 'its windows begin with BOS'],
    [taken({ hash: 'other' }), 'measured on other text'],
    [taken({ precision: 'bfloat16' }), 'computed in bfloat16'],
    [(one) => ({ ...one, fingerprint: 'old', lineage: { ...one.lineage, content: 'old' } }), 'its model was replaced in between'],
  ]
  for (const [change, reason] of cases) {
    const { answer, parts, untested, fronts } = dense(change)
    expect([answer, verdictText({ parts })]).toEqual(['unknown', 'No verdict: no dense file was measured like a pruned one.'])
    expect(untested[0]).toContain(`(${reason}).`)
    expect(fronts.at(-1)?.apart.map((one) => one.reason)).toEqual([reason])
  }
  expect(dense((one) => one).answer).toBe('prune')
})

test('without a text that decides there is no rival', () => {
  const found = worthOf([run('dense Q4_0', 80, null), run('2SSP Q8_0', 80, null, { c4: 5 })])
  expect(found.duels.map(({ rival, outcome, leftOut }) => [rival, outcome, leftOut])).toEqual([[null, 'no rival', []]])
  expect([verdictText(found), found.untested[0]]).toEqual([
    'No verdict: each measured text is from a collection that pruning read too. Measure another text.',
    'No text was measured that pruning never saw.',
  ])
})

test('without a dense file as small, or without unseen text, there is no verdict', () => {
  const alone = worthOf([run('dense Q4_0', 80, 40), run('2SSP Q4_0', 50, 60)])
  expect(alone).toMatchObject({
    answer: 'unknown',
    parts: [
      {
        answer: 'No verdict: no pruned file has a dense rival of its size.',
        sure: 'Dense files stay at 80 MB; 2SSP Q4_0 reaches 50 MB. On text that pruning never saw, its perplexity is 60 on prose.',
      },
    ],
  })
  expect(alone.untested[0]).toBe('No dense file is as small as 2SSP Q4_0 (50 MB).')
  expect(worthOf([run('dense Q4_0', 80, null), run('2SSP Q4_0', 80, null)])).toMatchObject({
    answer: 'unknown',
    duels: [{ vetoed: false }],
  })
})

test('a verdict names the file to take: the pruned one that wins, else the dense one that beats it, else none', () => {
  const fileOf = (...runs: ReturnType<typeof run>[]) => worthOf(runs).file?.name ?? null
  expect(fileOf(run('dense Q4_0', 80, 40), run('2SSP Q8_0', 80, 20))).toBe('2SSP Q8_0')
  expect(fileOf(run('dense Q4_0', 80, 20), run('2SSP Q8_0', 80, 40))).toBe('dense Q4_0')
  expect(fileOf(run('dense Q4_0', 80, 20), run('2SSP Q8_0', 80, 20))).toBeNull()
  expect(fileOf(run('2SSP Q8_0', 80, 40))).toBeNull()
})

test('without any dense file the verdict asks for one, and says nothing of texts', () => {
  const found = worthOf([run('2SSP Q4_0', 50, 60), run('2SSP Q8_0', 80, 55)])
  expect(found).toMatchObject({
    answer: 'unknown',
    parts: [{ answer: 'No verdict: no dense file was measured.', sure: 'Run the unpruned model on the same texts too.' }],
  })
  expect(found.duels.map(({ rival, outcome }) => [rival, outcome])).toEqual([
    [null, 'no rival'],
    [null, 'no rival'],
  ])
})

test('the corpus decides what is unseen, not the name of a split or of a file', () => {
  const decides = (seen: string, measured: string, hash = 'prose 8 × 512') => {
    const one = run('2SSP Q4_0', 80, 40, { parameters: { 'calibration.source': seen } })
    const calibration = { source: seen, hash: 'same windows' } as ComparedRun['calibration']
    const measures = one.measures.map((measure) => (measure.dataset === 'prose' ? { ...measure, on: { hash, count: 8 } } : measure))
    // The order of texts and of measures may differ.
    const evaluation = [
      { source: measured, hash },
      { source: 'c4', hash: 'c4 8 × 512' },
    ] as ComparedRun['evaluation']
    return worthOf([{ ...one, measures, calibration, evaluation }]).fronts.at(-1)?.decides
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
  const mixed = (name: string) => ({ ...run(name, 80, 40, { parameters: {} }), evaluation: [{ source: 'mixed', hash: 'prose 8 × 512' }] })
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
  expect(verdictText(worthOf(smol))).toContain(
    'Do not prune, as far as 8 windows show: at 64 MB, dense Q2_K is better than every pruned file. Perplexity on prose: 61.3 against 85.7 of 2SSP 25 % in Q4_K_M, ×0.715',
  )
  const sentence = verdictText(worthOf([...smol, ...smallest]))
  expect(sentence).toContain(
    'Prune, as far as 8 windows show: at 50 MB, 2SSP 50 % in Q3_K_M is better than dense IQ2_XXS. Perplexity on prose: 246 against 345, ×0.713',
  )
  expect(sentence).toContain('Pruning wins for 1 of 5 pruned files.')
})

test('at equal time to the first token another file is the rival, and files that were not timed are named', () => {
  const timed = (name: string, megabytes: number, prose: number, milliseconds?: number) =>
    run(name, megabytes, prose, milliseconds === undefined ? {} : { milliseconds })
  const runs = [timed('dense Q8_0', 140, 31, 180), timed('2SSP 25 % in Q8_0', 110, 34, 120), timed('dense Q4_K_M', 88, 30.1)]
  const [, cost] = costsOf(runs, isPruned)
  const alone = worthOf(runs, cost)
  expect(verdictText(alone)).toBe(
    'No verdict: no pruned file has a dense rival at its speed. Dense files stay at 180 ms to the first token; 2SSP 25 % in Q8_0 reaches 120 ms to the first token. On text that pruning never saw, its perplexity is 34 on prose.',
  )
  expect(alone.untested).toContain('Time to first token (512 tokens) is not known for: dense Q4_K_M.')
  expect(verdictText(worthOf(runs))).toContain('at 88 MB, dense Q4_K_M is better than 2SSP 25 % in Q8_0')
  const quick = worthOf([...runs, timed('dense Q4_0', 90, 36, 121)], cost)
  expect(verdictText(quick)).toContain(
    'Prune, as far as 8 windows show: at 120 ms to the first token, 2SSP 25 % in Q8_0 is better than dense Q4_0. Perplexity on prose: 34 against 36',
  )
  const apart = 'Times were taken in different runs. The machine may have been busier in some.'
  expect([quick, alone, worthOf(runs)].map(({ untested }) => untested.includes(apart))).toEqual([true, false, false])
  expect(costsOf(runs.slice(1), isPruned).map(({ id }) => id)).toEqual(['size'])
})

test('a dense file without one of the deciding texts is no rival, and the sentence does not call it too large', () => {
  const lacking = worthOf([run('dense Q2_K', 50, null), run('2SSP Q4_0', 120, 60)])
  expect(verdictText(lacking)).toBe('No verdict: no dense file was measured on every text that decides.')
  const large = worthOf([run('dense Q2_K', 50, null), run('dense Q8_0', 140, 40), run('2SSP Q4_0', 120, 60)])
  expect(verdictText(large)).toContain('Dense files measured on every text that decides stay at 140 MB; 2SSP Q4_0 reaches 120 MB')
  expect(large.untested[0]).toBe('No dense file measured on every text that decides is as small as 2SSP Q4_0 (120 MB).')
  const bare = worthOf([run('dense Q4_0', 80, 40), run('2SSP Q4_0', 80, null)])
  expect(verdictText(bare)).toBe('No verdict: no pruned file was measured on every text that decides.')
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
  expect(verdictText(found)).toContain('better than dense Q3_K_M, but worse on gsm8k (0 % against 30 %). Perplexity')
  expect(found.fronts.find(({ kind }) => kind === 'gsm8k')).toMatchObject({
    measure: 'exact match',
    decides: false,
    rows: [{ name: 'dense Q3_K_M' }],
  })
  expect(found.rows.map(({ quality }) => quality.gsm8k?.mean)).toEqual([0.3, 0])
})

test('a smaller model is a rival, by its perplexity on the same tokens, else by bits per byte of the same text', () => {
  const ofSibling = (one: ComparedRun): ComparedRun => ({
    ...one,
    model: { id: 'model-2', name: 'tinier' },
    lineage: { ...one.lineage, model: 'model-2' },
  })
  const own = [run('dense Q4_0', 90, 50), run('2SSP Q8_0', 94, 38.9)]
  expect(worthOf(own).answer).toBe('prune')
  expect(verdictText(worthOf([...own, ofSibling(run('dense Q8_0', 80, 31))]))).toContain(
    'Do not prune, as far as 8 windows show: at 80 MB, tinier, dense Q8_0 is better than 2SSP Q8_0. Perplexity on prose: 31 against 38.9, ×0.797',
  )
  const otherTokens = ofSibling(run('dense Q8_0', 80, 31, { windows: 'other tokens' }))
  const apart = worthOf([...own, otherTokens])
  expect([apart.answer, apart.untested[1]]).toEqual(['prune', 'Left out: tinier, dense Q8_0 (measured on other tokens).'])
  const withBits = (one: ComparedRun, value: number, text = 'prose'): ComparedRun => {
    const on = { ...one.measures.find(({ name, dataset }) => name === 'perplexity' && dataset === 'prose')?.on, text, bytes: 16_000 }
    return {
      ...one,
      measures: [...one.measures, { name: 'bits per byte', dataset: 'prose', value, best: value, unit: '', error: 0.01, on }],
    } as ComparedRun
  }
  const inBits = [...own.map((one, at) => withBits(one, [1.3, 1.2][at] ?? 0)), withBits(otherTokens, 1.1)]
  expect(verdictText(worthOf(inBits))).toMatch(
    /^Do not prune, as far as 8 windows show: at 80 MB, tinier, dense Q8_0 is better than 2SSP Q8_0\. Bits per byte on prose: 1\.1 against 1\.2, −0\.1 \(−0\.13 to −0\.067\) over 8 windows\./,
  )
  // Bits per byte of other text say nothing.
  expect(worthOf([...inBits.slice(0, 2), withBits(otherTokens, 1.1, 'other text')]).answer).toBe('prune')
})

test('a model that a run saved is a pruned file, of the dense model that it comes from', () => {
  const saved = run('dense Q8_0', 80, 40)
  const again = { ...saved, id: 'again', model: { id: 'saved', name: 'tiny-pruned' }, lineage: { ...saved.lineage, pruned: true } }
  const found = worthOf([run('dense Q4_0', 80, 50), again])
  expect(verdictText(found)).toContain('Prune, as far as 8 windows show: at 80 MB, tiny-pruned, Q8_0 is better than dense Q4_0')
  expect([...runsByModel([run('dense Q4_0', 80, 50), again]).keys()]).toHaveLength(1)
})

test('a verdict is about the content of a model that was pruned, and runs that inspect others have none', () => {
  let clock = 0
  const made = (model: string, method: string, content = 'first') =>
    ({
      model: { id: model, name: model },
      fingerprint: content,
      lineage: { model, content, pruned: false },
      method,
      createdAt: clock++,
    }) as ComparedRun
  const counts = (...runs: ComparedRun[]) => [...runsByModel(runs).values()].map((found) => [found.name, found.runs.length])
  expect(counts(made('b', '2ssp'), made('a', 'dense'), made('a', '2ssp'), made('a', 'divergence'))).toEqual([
    ['a', 2],
    ['b', 1],
  ])
  expect(counts(made('a', 'dense'), made('b', '2ssp'))).toEqual([['b', 2]])
  expect(counts(made('b', 'dense'), made('a', 'dense'))).toEqual([
    ['a', 1],
    ['b', 1],
  ])
  // The latest content comes first. What was dense before is added, so that the verdict can say that it is left out.
  const replaced = [made('a', '2ssp', 'old'), made('a', 'dense', 'old'), made('a', '2ssp', 'new'), made('a', 'dense', 'new')]
  expect(counts(...replaced)).toEqual([
    ['a', 2],
    ['a, before it was replaced', 2],
  ])
  expect(counts(made('a', 'dense', 'old'), made('a', '2ssp', 'new'))).toEqual([['a', 2]])
})

test('a verdict says on how many windows and documents it is based, and from 16 windows on it does not ask for more', () => {
  const many = (one: ComparedRun, count: number): ComparedRun => ({
    ...one,
    measures: one.measures.map(({ losses = [], ...rest }) => {
      if (!rest.on) return rest
      return { ...rest, on: { ...rest.on, count }, losses: Array.from({ length: count }, (_, at) => losses[at % 8] ?? 0) }
    }),
    evaluation: one.evaluation.map((used) => ({ ...used, documents: 3 })),
  })
  const on = (count: number) => worthOf([many(run('dense Q4_0', 80, 30), count), many(run('2SSP Q8_0', 80, 40), count)])
  expect(on(4).parts[0]?.answer).toMatch(/^Do not prune, as far as 4 windows show: at 80 MB, [^.]*\.$/)
  expect(on(4).parts[0]?.sure).toMatch(/over 4 windows\. Measure 16 windows or more to be sure\.$/)
  expect(on(4).parts[0]?.reasons).toContain('Decided on 4 windows of 512 tokens of prose, from 3 documents, which pruning never saw.')
  // Student's 3.18 for four windows times 0.2 / √4 nats.
  expect(on(4).untested[0]).toBe(
    'Only 4 windows of prose decided. They usually show differences of 37 % and more in perplexity; 16 windows show 11 %.',
  )
  expect(on(16).parts[0]?.answer).toMatch(/^Do not prune: at /)
  expect(on(16).parts[0]?.sure).toMatch(/over 16 windows\.$/)
  expect(on(16).parts[0]?.reasons).toContain('Decided on 16 windows of 512 tokens of prose, from 3 documents, which')
  expect(on(16).untested.join(' ')).not.toContain('windows')
})

test('a verdict compares the file to take with the model that the user has, in size and in perplexity', () => {
  const sourceText = (...runs: ComparedRun[]) => /^Your unpruned model .*?\)\.(?= |$)/.exec(worthOf(runs).parts[0]?.reasons ?? '')?.[0]
  const source = run('dense', 380, 20)
  const [pruned, rival] = [run('2SSP 25 % in Q4_K_M', 300, 22.4), run('dense Q3_K_M', 300, 30)]
  expect(sourceText(source, pruned, rival)).toMatch(
    /^Your unpruned model has 380 MB; 2SSP 25 % in Q4_K_M has 300 MB, and its perplexity on prose is 12 % higher, ×1\.12 \(1\.1\d to 1\.1\d\)\.$/,
  )
  // The file to take may be an unpruned one of another type.
  expect(sourceText(source, pruned, run('dense Q3_K_M', 300, 21))).toMatch(/; dense Q3_K_M has 300 MB, and .* is 5 % higher, /)
  // Without a rival of its size, the best pruned file.
  expect(sourceText(source, pruned)).toContain('; 2SSP 25 % in Q4_K_M has 300 MB')
  // The unpruned model was measured on other windows too.
  expect(sourceText(run('dense', 380, 25, { windows: '4 × 256' }), source, pruned, rival)).toBe(sourceText(source, pruned, rival))
  // The source itself beats a file that is not smaller.
  expect(sourceText(run('dense', 300, 20), pruned)).toBeUndefined()
  expect(sourceText(pruned, rival)).toBeUndefined()
})

test('a file made for a size is named by the size it has, so no sentence has two', () => {
  const mixed = { ...calibrated, weights: 'MIXED:431000000' }
  const found = worthOf([
    run('dense Q3_K_M', 432, 25),
    run('dense mixed types (431 MB)', 429.4, 20, { parameters: mixed }),
    run('2SSP 431 MB of mixed types', 429.1, 30, { parameters: { ...mixed, 'amount.bytes': 431e6 } }),
    run('2SSP 1.2 GB in Q8_0', 1190, 30, { parameters: { ...calibrated, weights: 'Q8_0', 'amount.bytes': 1.2e9 } }),
  ])
  expect(found.rows.map(({ name }) => name)).toEqual([
    'dense Q3_K_M',
    'dense mixed types (429 MB)',
    '2SSP 429 MB of mixed types',
    '2SSP 1.19 GB in Q8_0',
  ])
  expect(verdictText(found)).not.toContain('431')
  const large = run('dense', 491, 19)
  const taken = worthOf([large, run('dense Q3_K_M', 432, 25), run('2SSP 431 MB of mixed types', 429.1, 20, { parameters: { ...mixed } })])
  expect(verdictText(taken)).toMatch(/has 491 MB; the perplexity of 2SSP 429 MB of mixed types on prose is 5\.3 % higher, ×1\.05 /)
})

const ownPart = (part: string, seed = 0) => ({ source: '/home/me/notes', split: { part, seed } })
/** Runs for the user's own text, calibrated on one part of it and measured on `measured`; prose is other text. */
function forOwnText(measured: { source: string; split?: object }, calibration: object = { part: 'choosing', seed: 0 }) {
  const parameters = {
    'calibration.source': '/home/me/notes',
    ...Object.fromEntries(Object.entries(calibration).map(([name, value]) => [`calibration.split.${name}`, value])),
  }
  const one = (name: string, megabytes: number, notes: number, prose: number) => {
    const made = run(name, megabytes, prose, { c4: notes, parameters }) as unknown as {
      evaluation: object[]
      measures: { dataset: string }[]
    }
    made.evaluation = made.evaluation.map((used) => ('source' in used && used.source === 'c4' ? { ...used, ...measured } : used))
    made.measures = made.measures.map((measure) => (measure.dataset === 'c4' ? { ...measure, dataset: 'notes' } : measure))
    return made as unknown as ComparedRun
  }
  return [one('dense Q8_0', 145, 20, 20), one('dense Q2_K', 90, 30, 25), one('2SSP 25 % in Q8_0', 91, 24, 60)]
}

test('for one’s own text, the kept part decides, and a second sentence says what it costs for other text', () => {
  const worth = worthOf(forOwnText(ownPart('deciding')))
  expect(worth.answer).toBe('prune')
  expect(verdictText(worth)).toMatch(
    /^For your notes: Prune, as far as 8 windows show: at .* is better than dense Q2_K.* For your notes: Dense Q2_K is the best dense file of its size\. .* For other text \(prose\): Do not prune, as far as 8 windows show: at .* For other text \(prose\): Decided on /,
  )
  expect(worth.fronts.map(({ kind, decides, elsewhere }) => [kind, decides, elsewhere])).toEqual([
    ['notes', true, false],
    ['prose', false, true],
  ])
  // A screen shows the answers bold.
  expect(worth.parts.map(({ answer }) => answer)).toEqual([
    expect.stringMatching(/^For your notes: Prune, as far as 8 windows show: at [^.]*\.$/),
    expect.stringMatching(/^For other text \(prose\): Do not prune, as far as 8 windows show: at [^.]*\.$/),
  ])
  expect(worth.duels[0]?.texts.map(({ kind }) => kind)).toEqual(['notes'])
})

test('one’s own text does not decide if a choice may have read it: the same part, another seed, the whole text, another folder', () => {
  const kinds = (runs: ComparedRun[]) => worthOf(runs).fronts.flatMap(({ kind, decides }) => (decides ? [kind] : []))
  expect(kinds(forOwnText(ownPart('deciding')))).toEqual(['notes'])
  expect(kinds(forOwnText(ownPart('choosing')))).toEqual(['prose'])
  expect(kinds(forOwnText(ownPart('deciding', 1)))).toEqual(['prose'])
  expect(kinds(forOwnText(ownPart('deciding'), {}))).toEqual(['prose'])
  expect(kinds(forOwnText({ ...ownPart('deciding'), source: '/elsewhere/notes' }))).toEqual(['prose'])
  // A second experiment that read the whole text.
  const whole = run('2SSP 50 %', 70, 90, { parameters: { 'calibration.source': '/home/me/notes' } })
  expect(kinds([...forOwnText(ownPart('deciding')), whole])).not.toContain('notes')
})

test('a verdict says whether choosing the type of each matrix pays, and offers such a file as a rival of pruned ones', () => {
  const mixed = (megabytes: number, prose: number) =>
    run(`dense mixed ${megabytes}`, megabytes, prose, { parameters: { ...calibrated, weights: `MIXED:${megabytes * 1e6}` } })
  const found = worthOf([run('dense Q4_0', 94, 33), run('dense Q8_0', 140, 30), mixed(94, 31), mixed(140, 30), run('2SSP Q8_0', 94, 38.9)])
  expect(verdictText(found)).toContain(': at 94 MB, dense mixed 94 is better than 2SSP Q8_0. ')
  expect(verdictText(found)).toMatch(
    /Choosing the type of each matrix pays: at 94 MB, dense mixed 94 is better than dense Q4_0, the best dense file of one type of its size\. Perplexity on prose: 31 against 33, .*\. It pays at 1 of 2 sizes\. Decided on/,
  )
  expect(found.file?.name).toBe('dense mixed 94')
  expect(verdictText(worthOf([run('dense Q4_0', 94, 31), mixed(94, 31), run('2SSP Q8_0', 94, 38.9)]))).not.toContain('Choosing')
})

test('a file whose bytes buy more as bits than any part is worth is offered whole, and stated if no file of one type is as small', () => {
  const parameters = { ...calibrated, weights: 'MIXED:80000000' }
  const divided = { ...run('Gates 80 MB of mixed types', 80, 30.1, { parameters }), reached: 0 }
  const runs = [run('dense', 160, 30), run('dense Q4_0', 94, 33), run('dense mixed 80', 80, 30.1, { parameters })]
  const found = worthOf([...runs, divided])
  expect(verdictText(found)).toBe(
    'Do not prune, as far as 8 windows show: at 80 MB, removing any part costs more than storing weights in fewer bits. Take dense mixed 80. Measure 16 windows or more to be sure. Your unpruned model has 160 MB; dense mixed 80 has 80 MB, and its perplexity on prose does not differ clearly, ×1.00 (0.996 to 1.01). Dense mixed 80 is smaller than every measured file of one type. Decided on 8 windows of 512 tokens of prose, which pruning never saw. Ranges are 95 % intervals.',
  )
  expect([found.answer, found.file?.name]).toEqual(['do not prune', 'dense mixed 80'])
  expect(worthOf([...runs, { ...divided, reached: 0.05 }]).answer).toBe('no difference')
  const others = runs.slice(1)
  const elsewhere = run('dense', 160, 30, { windows: '8 × 256' })
  expect(verdictText(worthOf([elsewhere, ...others, divided]))).not.toContain('unpruned')
})
