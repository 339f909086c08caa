import { expect, test } from 'vitest'
import { groupOverSeeds } from '#contract/comparison/seeds.ts'
import { grid } from '#contract/experiments/experiments.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import * as experiments from '../../../../src-renderer/features/experiments/experiments.ts'

const run = (id: string, method: string, nominal: number, perplexity: number | null, baseline = false) =>
  ({
    id,
    name: id,
    method,
    nominal,
    reached: nominal,
    baseline,
    seed: 0,
    parameters: {},
    model: { id: 'm', name: 'tiny' },
    fingerprint: null,
    lineage: { model: 'm', content: null, pruned: false },
    measures:
      perplexity === null
        ? []
        : [{ name: 'perplexity', dataset: 'test', value: perplexity, unit: '', best: perplexity, on: { hash: 'test', count: 1 } }],
  }) as unknown as RunEntry
const runs = [
  run('dense', 'dense', 0, 10, true),
  run('a', '2ssp', 0.25, 19),
  run('b', 'shortgpt', 0.25, 50),
  run('c', 'shortgpt', 0.5, 90),
  run('d', '2ssp', 0.5, null),
]

test('seeds become one point of the chart with their deviation; the dense model and unmeasured runs have none', () => {
  const seeds = [run('2SSP 25 %, seed 0', '2ssp', 0.25, 19), { ...run('2SSP 25 %, seed 1', '2ssp', 0.25, 21), seed: 1 }]
  const points = experiments.pointsOf([groupOverSeeds([...runs.filter(({ id }) => id !== 'a'), ...seeds])], 'perplexity/test')
  expect(points.map(({ label, x, y, spread, series }) => [label, x, y, spread, series])).toEqual([
    ['b', 0.25, 50, null, 'ShortGPT'],
    ['c', 0.5, 90, null, 'ShortGPT'],
    ['2SSP 25 %, 2 seeds', 0.25, expect.closeTo(Math.sqrt(19 * 21), 9), expect.closeTo((21 / 19) ** Math.SQRT1_2, 9), '2SSP'],
  ])
  const [first, second] = seeds.map((seed) => ({ ...seed, measures: seed.measures.map((measure) => ({ ...measure, error: 0.3 })) }))
  const other = { ...second, measures: [{ name: 'size', dataset: '', value: 9, unit: 'bytes' }] }
  // Of two seeds one has a perplexity: its standard error is no deviation over seeds.
  const one = experiments.pointsOf([groupOverSeeds([first, other] as typeof runs)], 'perplexity/test')
  expect(one.map(({ y, spread }) => [y, spread])).toEqual([[19, null]])
})

test('tasks have their titles, and a name that is no task stays', () => {
  const asked = { models: ['model'], methods: [], amounts: [], measures: [{ kind: 'tasks', tasks: ['gsm8k', 'constructor'] }] }
  const facts = experiments.gridFacts(grid.parse(asked), (method) => method)
  expect(facts.at(-1)).toEqual({ title: 'Measured', text: 'GSM8K, constructor' })
})

test('repairs and recoveries are facts of an experiment where any was asked for', () => {
  const factsOf = (asked: object) =>
    experiments
      .gridFacts(grid.parse({ models: ['model'], methods: [], amounts: [], ...asked }), String)
      .map(({ title, text }) => `${title}: ${text}`)
  expect(factsOf({ repairs: ['none'], recoveries: ['none'] }).join()).not.toMatch(/Rep|Rec/)
  expect(factsOf({ repairs: ['none', 'one-pass'], recoveries: [{ tokens: 1024 }] })).toEqual(
    expect.arrayContaining(['Repair: as pruned, repaired in one pass', 'Recovery: recovered with 1,024 tokens']),
  )
})

test('unpruned files and options are facts of an experiment, in words', () => {
  const methods = [{ method: '2ssp', options: { channelShare: 0.5 } }]
  const asked = { models: ['model'], methods, amounts: [], rivals: ['Q8_0'] }
  const facts = experiments.gridFacts(grid.parse(asked), () => '2SSP').map(({ title, text }) => `${title}: ${text}`)
  expect(facts).toEqual(expect.arrayContaining(['Methods: 2SSP (channel share 0.5)', 'Weights: as computed, Q8_0 (unpruned)']))
})

test('the progress of an experiment names what is not done', () => {
  expect(experiments.progressText({ counts: { done: 5, failed: 1, running: 1 }, runs: 7 })).toBe('5 of 7 done, 1 running, 1 failed')
  expect(experiments.progressText({ counts: { done: 3 }, runs: 3 })).toBe('3 runs done')
})

test('runs of a model that was replaced are compared with the baseline of that model', () => {
  const of = (id: string, method: string, fingerprint: string, createdAt: number) =>
    ({
      ...run(id, method, 0.5, 20, method === 'dense'),
      model: { id: 'm', name: 'tiny' },
      status: 'done',
      fingerprint,
      createdAt,
    }) as Parameters<typeof experiments.baselineOf>[1]
  const [before, old, after, now] = [of('a', 'dense', '1', 1), of('b', '2ssp', '1', 2), of('c', 'dense', '2', 4), of('d', '2ssp', '2', 3)]
  const all = [before, old, after, now]
  expect(experiments.latestBaseline(all)).toBe(after)
  expect([old, now].map((one) => experiments.baselineOf(all, one)?.id)).toEqual(['a', 'c'])
  expect(experiments.changedModelsText(['tiny'])).toContain('The model tiny was replaced')
})

test('the outcome is shown by what every amount limits: the size of the file, or its speed once it was measured', () => {
  const decode = { name: 'tokens per second', dataset: 'decode in llama.cpp', value: 40, unit: 'tokens/s', best: 40 }
  const size = { name: 'size', dataset: '', value: 7e6, unit: 'bytes', best: 7e6 }
  const timed = runs.map((one) => ({ ...one, parameters: {}, measures: [...one.measures, size, decode] }))
  const asked = (amounts: object[], of: object[] = timed) =>
    experiments.acrossOf(grid.parse({ models: ['model-a'], methods: [], amounts }), of as Parameters<typeof experiments.acrossOf>[1])
  const [bytes, speed] = [asked([{ bytes: 9e6, format: 'gguf' }]), asked([{ tokensPerSecond: 30 }])]
  expect([bytes, speed].map(experiments.axisTitle)).toEqual(['file size', 'tokens a second while writing'])
  expect(asked([{ tokensPerSecond: 30 }], []), 'while nothing is measured').toBe(bytes)
  expect([asked([{ sparsity: 0.5 }]), asked([]), asked([{ sparsity: 0.5 }, { bytes: 9e6, format: 'gguf' }])]).toEqual([null, null, null])
  const places = (of: typeof timed, across: typeof bytes) =>
    experiments.pointsOf([groupOverSeeds(of)], 'perplexity/test', across).map(({ x }) => x)
  expect(places(timed.slice(1, 2), bytes)).toEqual([7e6])
  expect(places(timed.slice(1, 2), speed)).toEqual([40])
  expect(experiments.pointsOf([groupOverSeeds(runs)], 'perplexity/test', bytes)).toEqual([])
})

test('what inspects the runs of an experiment is listed after them', () => {
  const listed = [run('What broke', 'divergence', 0, null), ...runs]
  expect(experiments.orderRuns(listed).map(({ id }) => id)).toEqual(['dense', 'a', 'd', 'b', 'c', 'What broke'])
})
