import { expect, test } from 'vitest'
import { grid as gridSchema } from '#contract/experiments/experiments.ts'
import type { Catalogue } from '#contract/pruning/methods.ts'
import { parseOptions } from '#engine/pruning/method.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { presetsFor } from '#services/experiments/presets.ts'

const dataset = (source: string, use: string) => ({ source, title: source, uses: [use], present: true, bytes: 1, summary: '' })
const catalogue = {
  methods: ['2ssp', 'shortgpt', 'reap', 'gates'].map((id) => ({ id, title: id, unit: id === 'reap' ? 'experts' : 'block' })),
  datasets: [dataset('mixed', 'calibration'), dataset('prose', 'evaluation'), dataset('code', 'evaluation')],
  tasks: [],
} as unknown as Catalogue
/** The presets for a model of which `methods` can remove nothing. */
const presetsWithout = (methods: string[], holdsGguf = true) => {
  const feasible = methods.map((method) => ({ method, maximum: 0 }))
  return presetsFor(
    { id: 'model-1', contextLength: 256, parameters: 1e8, hidden: 576, ofSample: false, holdsGguf, siblings: ['tiny'], feasible },
    catalogue,
  )
}
const presets = presetsWithout(['reap'])
const found = (id: string) => presets.find((preset) => preset.id === id)

test('each goal of the form has a preset, and every preset is a grid that the contract takes', () => {
  expect(presets.flatMap(({ goal }) => goal ?? [])).toEqual([
    'A smaller file',
    'The best file of a size',
    'For what I do',
    'A faster first token',
    'Faster writing',
    'Reproduce the paper',
  ])
  for (const { grid } of presets) expect(gridSchema.safeParse(grid).success).toBe(true)
})

test('every preset gives its methods options that they have', () => {
  for (const { grid } of [...presets, ...presetsWithout([])])
    for (const { method, options } of grid.methods) expect(() => parseOptions(findMethod(method), options)).not.toThrow()
})

test('windows begin as the model needs, except where the paper is reproduced', () => {
  for (const { id, grid } of presets) expect([id, grid.beginToken]).toEqual([id, id === 'paper-table' ? 'reference' : 'auto'])
})

test('a quick look takes little text of a real model, and the usual windows of the small sample', () => {
  const of = (ofSample: boolean) => {
    const [quick] = presetsFor(
      { id: 'model-1', contextLength: 8192, parameters: 1e8, hidden: 576, ofSample, holdsGguf: true, siblings: [], feasible: [] },
      catalogue,
    )
    const texts = [quick?.grid.calibration, ...(quick?.grid.measures ?? []).map((measure) => 'data' in measure && measure.data)]
    return texts.map((text) => (text ? [text.windows, text.sequenceLength] : []))
  }
  expect(of(false)).toEqual([
    [32, 512],
    [16, 512],
  ])
  expect(of(true)).toEqual([
    [undefined, 2048],
    [8, 2048],
  ])
})

test('pruned files get rivals of every size, measured on texts that no choice saw, and times only where they matter', () => {
  const worth = found('worth-it')
  const types = ['F16', 'IQ2_M', 'IQ3_XXS', 'Q2_K', 'Q3_K_M', 'Q4_0', 'Q4_K_M', 'Q6_K', 'Q8_0']
  expect([...(worth?.grid.weights ?? []), ...(worth?.grid.rivals ?? [])].sort()).toEqual(types)
  const mixed = found('best-file')?.grid
  expect(mixed).toMatchObject({
    weights: ['MIXED:75000000', 'MIXED:68800000', 'MIXED:62500000'],
    amounts: [{ bytes: 75e6, type: 'MIXED:75000000' }, {}, {}],
  })
  expect(mixed?.rivals).not.toContain('F16')
  const kinds = (id: string) => found(id)?.grid.measures.map(({ kind }) => kind)
  expect(kinds('worth-it')).toEqual(['perplexity', 'perplexity', 'repetition', 'inference'])
  expect(kinds('smaller-file')).toEqual(['perplexity', 'perplexity', 'repetition'])
  const parts = ['amounts', 'methods', 'repair', 'recovery', 'weights', 'measures']
  for (const id of ['worth-it', 'smaller-file', 'first-token', 'faster-writing'])
    expect(Object.keys(found(id)?.reasons ?? {}).sort()).toEqual([...parts].sort())
})

test('experiments use gates, and 2SSP with the reason where attention sinks or files of mixtures rule gates out', () => {
  const methodsOf = (ruledOut: string[], id: string, reap = 0) => {
    const feasible = [...ruledOut.map((method) => ({ method, maximum: 0 })), { method: 'reap', maximum: reap }]
    const all = presetsFor(
      { id: 'model-1', contextLength: 256, parameters: 1e8, hidden: 576, ofSample: false, holdsGguf: true, siblings: [], feasible },
      catalogue,
    )
    const one = all.find((preset) => preset.id === id)
    return { methods: one?.grid.methods.map(({ method }) => method), why: one?.reasons?.methods ?? one?.summary }
  }
  expect(methodsOf([], 'quick-look')).toMatchObject({
    methods: ['gates', '2ssp'],
    why: expect.stringContaining('Gates, trained briefly, and 2SSP'),
  })
  expect(methodsOf(['gates'], 'quick-look')).toMatchObject({
    methods: ['2ssp', 'shortgpt'],
    why: expect.stringContaining('2SSP and ShortGPT'),
  })
  for (const id of ['worth-it', 'smaller-file', 'first-token', 'faster-writing']) {
    expect(methodsOf([], id)).toMatchObject({ methods: ['gates'], why: expect.stringContaining('the loss of the whole model') })
    expect(methodsOf(['gates'], id)).toMatchObject({ methods: ['2ssp'], why: expect.stringContaining('attention sinks') })
    expect(methodsOf([], id, 0.5)).toMatchObject({ methods: ['2ssp'], why: expect.stringContaining('numbers of experts') })
  }
  expect(methodsOf([], 'paper-table').methods).toContain('2ssp')
})

test('for the user’s own work, one part of the text chooses, the other decides, and prose shows the cost elsewhere', () => {
  const grid = found('own-work')?.grid
  const split = (part: string) => ({ part, seed: 0 })
  expect(grid?.calibration).toMatchObject({ source: '', split: split('choosing') })
  expect(grid?.repairData?.mix?.map(({ source, split }) => [source, split?.part])).toEqual([
    ['', 'choosing'],
    ['mixed', undefined],
  ])
  expect(grid?.measures.map((measure) => 'data' in measure && [measure.kind, measure.data.source, measure.data.split])).toEqual([
    ['perplexity', '', split('deciding')],
    ['perplexity', 'prose', undefined],
    ['repetition', '', split('deciding')],
  ])
})

test('only a mixture is offered fewer experts, a quarter at most, and neither methods nor rivals that refuse it', () => {
  expect(found('experts')).toBeUndefined()
  const mixture = presetsWithout(['2ssp'])
  const experts = mixture.find(({ id }) => id === 'experts')
  expect(experts?.grid).toMatchObject({ methods: [{ method: 'reap', options: {} }], amounts: [{ experts: 0.125 }, { experts: 0.25 }] })
  expect(mixture.find(({ id }) => id === 'quick-look')?.grid.methods.map(({ method }) => method)).toEqual(['gates'])
  expect(mixture.some(({ grid }) => grid.weights?.length)).toBe(false)
})

test('a model has rivals where a GGUF file holds it, and a mixture among them is not recovered', () => {
  const weighed = (holdsGguf: boolean, ...methods: string[]) =>
    presetsWithout(methods, holdsGguf).filter(({ grid }) => grid.weights?.length)
  const [mixtures, others] = [weighed(true), weighed(true, 'reap')]
  expect([mixtures.length, others.length, weighed(false).length, weighed(false, 'reap').length]).toEqual([5, 6, 0, 0])
  for (const { grid, reasons } of mixtures) {
    expect([grid.repairs, grid.recoveries]).toEqual([['in-order'], undefined])
    expect(reasons?.recovery).toContain('Mixtures of experts cannot be recovered')
  }
  for (const { id, grid } of others)
    expect([grid.repairs, grid.recoveries?.length]).toEqual(id === 'best-file' ? [['none'], undefined] : [['in-order'], 1])
})

test('files are compared on short windows, and with smaller models of the family where there are any', () => {
  const [, worth, ...others] = presetsFor(
    {
      id: 'model-1',
      contextLength: 8192,
      parameters: 1e8,
      hidden: 576,
      ofSample: false,
      holdsGguf: true,
      siblings: ['a', 'b', 'c'],
      feasible: [],
    },
    catalogue,
  )
  expect(worth?.grid.calibration).toEqual({ source: 'mixed', sequenceLength: 512 })
  expect(worth?.grid.siblings).toEqual(['a', 'b'])
  expect(others.find(({ id }) => id === 'paper-table')?.grid.siblings).toBeUndefined()
})
