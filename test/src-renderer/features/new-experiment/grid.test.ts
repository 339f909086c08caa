import { describe, expect, test } from 'vitest'
import { grid as gridSchema } from '#contract/experiments/experiments.ts'
import type { OptionField } from '#contract/pruning/methods.ts'
import * as grid from '../../../../src-renderer/features/new-experiment/grid.ts'
import { readDraft } from '../../../../src-renderer/features/new-experiment/kept-draft.ts'

test('the chat template is asked for only while a task has written answers', () => {
  const chatOf = (tasks: string[]) => grid.toGrid({ ...grid.emptyDraft(), tasks, taskChat: true }).measures
  expect(chatOf(['piqa', 'gsm8k'])).toEqual([{ kind: 'tasks', tasks: ['piqa', 'gsm8k'], chat: true }])
  expect(chatOf(['piqa'])).toEqual([{ kind: 'tasks', tasks: ['piqa'] }])
})

test('a new draft begins windows as the model needs; an earlier grid without a choice begins them as the reference does', () => {
  expect(grid.toGrid(grid.emptyDraft()).beginToken).toBe('auto')
  const { beginToken: _, ...earlier } = grid.toGrid(grid.emptyDraft())
  expect(grid.fromGrid(earlier).beginToken).toBe('reference')
  expect(grid.toGrid(grid.fromGrid(earlier))).not.toHaveProperty('beginToken')
  expect(grid.fromGrid({ ...earlier, beginToken: 'always' }).beginToken).toBe('always')
})

test('a draft makes a grid that the contract takes, and comes back the same', () => {
  const draft = {
    ...grid.emptyDraft(),
    models: ['model-a'],
    methods: [{ key: 0, method: '2ssp', options: { alpha: 2 } }],
    perplexity: [{ name: 'Test', data: { source: '/x', sequenceLength: 256 } }],
    tasks: ['arc'],
    taskLimit: 20,
    inferenceTokens: 2048,
    answers: true,
    repetition: true,
    longContext: true,
    weights: ['computed' as const, 'Q4_0' as const],
    rivals: ['Q2_K' as const],
    vocabulary: { share: 0.5 },
    siblings: ['model-b'],
    memoryBytes: 1_000_000,
  }
  const made = grid.toGrid(draft)
  expect(gridSchema.parse(made)).toMatchObject({
    amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }],
    memoryBytes: 1_000_000,
    weights: ['computed', 'Q4_0'],
    rivals: ['Q2_K'],
    vocabulary: { share: 0.5 },
    siblings: ['model-b'],
  })
  expect(made.measures?.map(({ kind }) => kind)).toEqual(['perplexity', 'tasks', 'inference', 'repetition', 'long context', 'answers'])
  const again = grid.toGrid(grid.fromGrid(made))
  expect(again).toEqual(made)
})

test('what is measured on the first text follows it to another one, and stays as requested on the same', () => {
  const text = (source: string) => ({ name: source, data: { source, sequenceLength: 256 } })
  const asked = { ...grid.emptyDraft(), perplexity: [text('/a'), text('/b')], repetition: true, longContext: true }
  const measures = grid.toGrid(asked).measures?.map((one) => (one.kind === 'repetition' ? { ...one, tokens: 7 } : one))
  const again = grid.fromGrid({ ...grid.toGrid(asked), ...(measures ? { measures } : {}) })
  const measured = (draft: grid.Draft) =>
    grid.toGrid(draft).measures?.flatMap((one) => (one.kind === 'repetition' || one.kind === 'long context' ? [one] : []))
  expect(measured(again)).toMatchObject([{ data: { source: '/a' }, tokens: 7 }, { data: { source: '/a' } }])
  expect(measured({ ...again, perplexity: [text('/b')] })).toMatchObject([
    { name: '/b', data: { source: '/b' }, tokens: 96 },
    { name: '/b', data: { source: '/b' } },
  ])
})

describe('the most windows of the form', () => {
  const text = (source: string, windows?: number) => ({
    name: source,
    data: { source, sequenceLength: 256, ...(windows === undefined ? {} : { windows }) },
  })
  const measuredWindows = (draft: grid.Draft) =>
    grid
      .toGrid(draft)
      .measures?.map((measure) => (measure.kind === 'perplexity' ? [measure.data.sequenceLength, measure.data.windows] : []))

  test('hold for a text that was ticked before and for one that was ticked after they were typed', () => {
    const typed = { ...grid.emptyDraft(), perplexity: [text('/a')], evaluation: { sequenceLength: 128, windows: 4 } }
    const draft = { ...typed, perplexity: [...typed.perplexity, text('/b')] }
    expect(measuredWindows(draft)).toEqual([
      [128, 4],
      [128, 4],
    ])
    expect(measuredWindows({ ...draft, evaluation: { sequenceLength: 128, windows: null } })).toEqual([
      [128, undefined],
      [128, undefined],
    ])
  })

  test('of a grid whose texts have different ones stay those of each text until others are typed', () => {
    const made = grid.toGrid({
      ...grid.emptyDraft(),
      perplexity: [text('/a', 4), text('/b')],
      evaluation: { sequenceLength: undefined, windows: undefined },
    })
    const again = grid.fromGrid(made)
    expect(again.evaluation).toEqual({ sequenceLength: 256, windows: undefined })
    expect(measuredWindows(again)).toEqual([
      [256, 4],
      [256, undefined],
    ])
  })
})

describe('a kept draft', () => {
  const draft = { ...grid.emptyDraft(), models: ['a', 'gone'], siblings: ['gone'], amounts: [{ sparsity: 0.4 }], memoryBytes: 5 }
  const text = JSON.stringify({ origin: '#/new?from=x', draft })

  test('continues without the models that are gone, at its own address and where nothing is asked for', () => {
    for (const origin of ['#/new?from=x', '']) expect(readDraft(text, origin, ['a'])).toEqual({ ...draft, models: ['a'], siblings: [] })
  })

  test('is not continued for another experiment, without its models, or where there is none', () => {
    expect(readDraft(text, '#/new?from=y', ['a'])).toBeNull()
    expect(readDraft(text, '', ['b'])).toBeNull()
    expect(readDraft(null, '', ['a'])).toBeNull()
  })

  test('of another version gets the defaults of what it lacks or wrote in another form', () => {
    const other = JSON.stringify({ origin: '', draft: { models: ['a'], seeds: 'all', repairs: null } })
    expect(readDraft(other, '', ['a'])).toEqual({ ...grid.emptyDraft(), models: ['a'] })
  })
})

describe('the suggested name', () => {
  const title = (id: string) => id.toUpperCase()
  const methods = (ids: string[]) => ids.map((method, key) => ({ key, method, options: {} }))

  test('follows methods, sparsities and models', () => {
    const draft = { ...grid.emptyDraft(), methods: methods(['a', 'b', 'a']) }
    expect(grid.suggestedName(draft, title, ['small'])).toBe('A and B, 25 % and 50 %, small')
    expect(grid.suggestedName({ ...draft, methods: methods(['a', 'b', 'c', 'd']) }, title, ['x', 'y'])).toBe(
      'A, B and 2 more, 25 % and 50 %, 2 models',
    )
    const amounts = [0.1, 0.2, 0.3, 0.33333].map((sparsity) => ({ sparsity }))
    expect(grid.suggestedName({ ...draft, amounts }, title, ['small'])).toBe('A and B, 10 % to 33.333 %, small')
    expect(grid.suggestedName({ ...draft, methods: [] }, title, ['small'])).toBe('Dense, small')
  })

  test('says how many rows stay where options set that, and the amounts of other methods', () => {
    const of = (...options: Record<string, unknown>[]) => options.map((own, key) => ({ key, method: 'vocabulary', options: own }))
    const named = (...options: Record<string, unknown>[]) =>
      grid.suggestedName({ ...grid.emptyDraft(), amounts: [{ sparsity: 0 }], methods: of(...options) }, () => 'Vocabulary', ['small'])
    expect(named({ rows: 32_000 })).toBe('Vocabulary, 32,000 rows, small')
    expect(named({ rows: 32_000 }, { share: 0.5 }, { coverage: 0.999 })).toBe(
      'Vocabulary, 32,000 rows, 50 % of rows and 99.9 % coverage, small',
    )
    expect(named({ prior: 0 })).toBe('Vocabulary, 0 %, small')
    const mixed = { ...grid.emptyDraft(), methods: [...of({ rows: 32_000 }), ...methods(['b'])] }
    expect(grid.suggestedName(mixed, title, ['small'])).toMatch(/25 % and 50 %, small$/)
  })

  test('is that of a preset while the draft makes the same runs', () => {
    const preset = {
      id: 'q',
      title: 'Quick look',
      summary: '',
      grid: gridSchema.parse(grid.toGrid({ ...grid.emptyDraft(), models: ['model-a'], methods: methods(['a']) })),
    }
    const draft = grid.fromGrid(preset.grid)
    expect(grid.presetOf(draft, [preset])).toBe(preset)
    expect(grid.presetOf({ ...draft, models: ['model-a', 'model-b'] }, [preset])).toBe(preset)
    expect(grid.presetOf({ ...draft, seeds: [1] }, [preset])).toBeUndefined()
  })
})

describe('options', () => {
  const field: OptionField = {
    name: 'windows',
    kind: 'integer',
    label: 'Windows',
    help: '',
    default: 32,
    required: false,
    minimum: 1,
    maximum: 256,
  }

  test('say what is wrong beside the field', () => {
    expect(grid.optionProblem(field, 32)).toBeNull()
    expect(grid.optionProblem(field, undefined)).toBeNull()
    expect(grid.optionProblem(field, 1.5)).toBe('A whole number is needed here.')
    expect(grid.optionProblem(field, 0)).toBe('At least 1.')
    expect(grid.optionProblem(field, 300)).toBe('At most 256.')
    expect(grid.optionProblem(field, Number.NaN)).toBe('A number is needed here.')
    expect(grid.optionProblem({ ...field, required: true }, undefined)).toBe('Windows is needed.')
  })
})

test('a folder of local data is kept, for texts and for questions', () => {
  const made = grid.toGrid({ ...grid.emptyDraft(), tasks: ['piqa'], localFolder: '/data' })
  expect(made).toMatchObject({ localFolder: '/data', measures: [{ kind: 'tasks', folder: '/data' }] })
  expect(grid.fromGrid(gridSchema.parse({ ...made, models: ['model-a'] })).localFolder).toBe('/data')
  expect(grid.toGrid(grid.emptyDraft())).not.toHaveProperty('localFolder')
})

test('leaving out what cannot be downloaded drops its tasks and texts, and calibrates on a text that is here', () => {
  const text = (source: string) => ({ source, sequenceLength: 64 })
  const draft = {
    ...grid.emptyDraft(),
    tasks: ['piqa', 'arc_easy'],
    perplexity: [
      { name: 'C4', data: text('c4-val') },
      { name: 'Prose', data: text('prose') },
    ],
    calibration: { ...text('c4-train'), windows: 8 },
  }
  const here = ['mixed', 'prose'].map((source) => ({
    source,
    title: source,
    uses: [source === 'mixed' ? ('calibration' as const) : ('evaluation' as const)],
    ofSample: false,
    present: true,
    bytes: 1,
    summary: '',
  }))
  expect(grid.withoutAbsent(draft, ['piqa', 'c4-val', 'c4-train'], here)).toMatchObject({
    tasks: ['arc_easy'],
    perplexity: [{ name: 'Prose' }],
    calibration: { source: 'mixed', sequenceLength: 64, windows: 8 },
  })
  const only = { ...draft, perplexity: draft.perplexity.slice(0, 1) }
  expect(grid.withoutAbsent(only, ['c4-val'], here).perplexity).toEqual([{ name: 'prose', data: text('prose') }])
})
