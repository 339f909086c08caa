import { describe, expect, test } from 'vitest'
import { grid as gridSchema } from '#contract/experiments/experiments.ts'
import type { OptionField } from '#contract/pruning/methods.ts'
import * as grid from '../../../src-renderer/features/new-experiment/grid.ts'

test('a draft makes a grid that the contract takes, and comes back the same', () => {
  const draft = {
    ...grid.emptyDraft(),
    models: ['model-a'],
    methods: [{ key: 0, method: '2ssp', options: { alpha: 2 } }],
    perplexity: [{ name: 'Test', data: { source: '/x', sequenceLength: 256 } }],
    tasks: ['arc'],
    taskLimit: 20,
    inference: true,
    answers: true,
    memoryBytes: 1_000_000,
  }
  const made = grid.toGrid(draft)
  expect(gridSchema.parse(made)).toMatchObject({ amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }], memoryBytes: 1_000_000 })
  const again = grid.toGrid(grid.fromGrid(made))
  expect(again).toEqual(made)
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

test('percentages are read with point, comma and sign, and nothing else', () => {
  expect(['37.5', '37,5 %', ' 0 ', '100'].map(grid.parsePercent)).toEqual([0.375, 0.375, 0, 1])
  expect(['', '101', '-1', 'half', '5 5'].map(grid.parsePercent)).toEqual([null, null, null, null, null])
})

test('seeds are read as numbers and ranges, each once', () => {
  expect(grid.parseSeeds('3, 0-2 1')).toEqual([0, 1, 2, 3])
  for (const text of ['', 'a', '5-2', '0-200', '1.5']) expect(grid.parseSeeds(text), text).toBeNull()
})

test('a sparsity that is there already is not added again', () => {
  const amounts = grid.addAmount([{ sparsity: 0.5 }], 0.25)
  expect(amounts).toEqual([{ sparsity: 0.25 }, { sparsity: 0.5 }])
  expect(grid.addAmount(amounts, 0.5)).toEqual(amounts)
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

test('a combination is told by what it removes', () => {
  const preview = { attentionRemoved: 3, blocksRemoved: null, neuronsRemovedPerBlock: 224 } as Parameters<typeof grid.removalText>[0]
  expect(grid.removalText(preview)).toBe('3 attention, 224 neurons per block')
  expect(grid.removalText({ ...preview, attentionRemoved: 3, blocksRemoved: 3, neuronsRemovedPerBlock: 0 })).toBe('3 blocks')
})

test('says what a result would weigh in a format, or why that cannot hold it', () => {
  const outline = { format: 'gguf', type: 'F16', bytes: 5_250_000, keyValueBytes: 2_000_000, notes: [], problem: null }
  expect(grid.formatText(outline)).toBe('gguf F16: 5.25 MB, KV cache 2 MB for 1,000 tokens')
  expect(grid.formatText({ ...outline, bytes: null, keyValueBytes: null, problem: 'Choose stock.' })).toBe(
    'gguf F16: not possible. Choose stock.',
  )
})
