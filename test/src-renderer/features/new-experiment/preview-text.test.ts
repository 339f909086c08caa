import { expect, test } from 'vitest'
import {
  formatText,
  groupProblems,
  removalText,
  rowTitle,
  timeText,
} from '../../../../src-renderer/features/new-experiment/preview-text.ts'

test('a combination is identified by what it removes', () => {
  const preview = { attentionRemoved: 3, blocksRemoved: null, neuronsRemovedPerBlock: 224 } as Parameters<typeof removalText>[0]
  expect(removalText(preview)).toBe('3 attention, 224 neurons per block')
  expect(removalText({ ...preview, attentionRemoved: 3, blocksRemoved: 3, neuronsRemovedPerBlock: 0 })).toBe('3 blocks')
})

test('says what a result would weigh in a format, or why that cannot hold it', () => {
  const outline = { format: 'gguf', type: 'F16', bytes: 5_250_000, keyValueBytes: 2_000_000, notes: [], problem: null }
  expect(formatText(outline)).toBe('gguf F16: 5.25 MB, KV cache 2 MB for 1,000 tokens')
  expect(formatText({ ...outline, bytes: null, keyValueBytes: null, problem: 'Choose stock.' })).toBe(
    'gguf F16: not possible. Choose stock.',
  )
})

test('no two rows of the preview have the same name, with two models in several types', () => {
  const models = new Map([
    ['a', 'tiny'],
    ['b', 'small'],
  ])
  const names = ['2SSP 25 %', '2SSP 25 %, Q4_0', 'dense, Q4_0']
  const titles = (of: ReadonlyMap<string, string>) =>
    [...of.keys()].flatMap((model) => names.map((name) => rowTitle({ name, model, runs: 1 } as Parameters<typeof rowTitle>[0], of)))
  expect(new Set(titles(models)).size).toBe(6)
  expect(titles(new Map([['a', 'tiny']]))).toEqual(names)
})

test('a time that one run lacks is unknown, and times that all lack are measured soon', () => {
  const range = { low: 60, likely: 120, high: 240 }
  const preview = (seconds: object | null, ...own: (object | null)[]) =>
    ({ seconds, problems: [], combinations: own.map((each) => ({ seconds: each })) }) as unknown as Parameters<typeof timeText>[0]
  expect(timeText(preview(range, range))).toMatch(/min/)
  expect(timeText(preview(null, range, null))).toBe('time unknown')
  expect(timeText(preview(null, null))).toBe('measuring speed …')
})

test('problems of a task that cannot be downloaded wait for it, whatever they begin with; others stay', () => {
  const gsm8k = { id: 'gsm8k', title: 'GSM8K' }
  const field = 'measures.0'
  const { absent, others } = groupProblems([
    { code: 'unreachable', field, message: 'The hub does not answer.', absent: gsm8k },
    { code: 'invalid', field, message: 'Answers of GSM8K do not fit this context.', of: gsm8k },
    { code: 'invalid', field, message: 'GSM8K asks for a chat template.' },
    { code: 'invalid', field, message: 'IFEval has no room.', of: { id: 'ifeval', title: 'IFEval' } },
    { code: 'invalid', field: 'measures.1', message: 'IFEval has no room.' },
  ])
  expect([...absent]).toEqual([['gsm8k', 'GSM8K']])
  expect(others).toEqual(['GSM8K asks for a chat template.', 'IFEval has no room.'])
})
