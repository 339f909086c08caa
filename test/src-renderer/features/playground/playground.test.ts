import { describe, expect, test, vi } from 'vitest'
import type { GenerationEvent } from '#contract/playground/generation.ts'
import * as answers from '../../../../src-renderer/features/playground/answers.ts'
import { sharedShare, sharedTokens } from '../../../../src-renderer/features/playground/answers.ts'
import { keptPrompts, keptSampling } from '../../../../src-renderer/features/playground/kept-prompts.ts'

describe('differences to the dense answer', () => {
  test('mark tokens that the reference lacks, and find the common ones again after them', () => {
    const shared = sharedTokens(['a', ' cat', ' is', ' an', ' animal'], ['a', ' dog', ' is', ' an', ' old', ' animal'])
    expect(shared).toEqual([true, false, true, true, false, true])
    expect(sharedShare(shared)).toBeCloseTo(4 / 6)
  })

  test('an equal answer has none, an empty one nothing to mark', () => {
    expect(sharedTokens(['x', 'y'], ['x', 'y'])).toEqual([true, true])
    expect(sharedTokens(['x'], [])).toEqual([])
    // Another tokenizer cuts the same words differently.
    expect(sharedTokens(['The', ' garden', 'er', ' is', ' here'], ['The', ' gard', 'ener', ' is', ' gone'])).toEqual([
      true,
      true,
      true,
      true,
      false,
    ])
    expect(sharedTokens([' cat', '.'], [' do', 'g', '.'])).toEqual([false, false, true])
    expect(sharedTokens([' unhappy'], [' un', 'kind'])).toEqual([true, false])
    expect(sharedShare([])).toBe(1)
  })

  test('very long answers are compared by their beginning, not by a table of gigabytes', () => {
    const long = Array.from({ length: 6000 }, (_, at) => `t${at}`)
    const other = [...long.slice(0, 10), ...long.slice(10).reverse()]
    const shared = sharedTokens(long, other)
    expect(shared.slice(0, 10).every(Boolean)).toBe(true)
    expect(shared.slice(10).some(Boolean)).toBe(false)
  })
})

describe('answers that stream in', () => {
  const token = (column: number, text: string): GenerationEvent => ({
    type: 'token',
    column,
    prompt: 0,
    token: { id: 1, text, probability: 0.5, alternatives: [] },
  })

  test('grow token by token; answers without news stay the same objects', () => {
    const first = answers.takeEvents(new Map(), [token(0, 'a'), token(1, 'x')])
    const second = answers.takeEvents(first, [token(0, ' b'), token(0, ' c')])
    expect(second.get('0:0')?.text).toBe('a b c')
    expect(second.get('0:0')?.tokens).toHaveLength(3)
    expect(first.get('0:0')?.tokens).toHaveLength(1)
    expect(second.get('0:1')).toBe(first.get('0:1'))
  })

  test('the whole answer replaces what streamed, and keeps its tokens when it comes without any', () => {
    const before = answers.takeEvents(new Map(), [token(0, 'a')])
    const end: GenerationEvent = {
      type: 'answer',
      column: 0,
      prompt: 0,
      text: 'a!',
      tokens: [],
      end: 'stopped',
      seconds: 1,
      firstTokenSeconds: 0.1,
      tokensPerSecond: 10,
      problem: null,
    }
    expect(answers.takeEvents(before, [end]).get('0:0')).toMatchObject({ text: 'a!', end: 'stopped', tokens: [{ text: 'a' }] })
  })
})

test('an answer without a token says what it waits for, and nothing once it has tokens or has ended', () => {
  const empty = { tokens: [], text: '', end: null, seconds: null, firstTokenSeconds: null, tokensPerSecond: null, problem: null }
  const token = { id: 1, text: 'a', probability: 1, alternatives: [] }
  const key = answers.answerKey(0, 0)
  const texts = (known: answers.Answers, status: 'running' | 'done' | 'failed' = 'running') =>
    [0, 1].map((column) => answers.waitingText(known, 0, column, status))
  expect(texts(new Map())).toEqual(['Loading the model …', 'Loading the model …'])
  expect(texts(new Map([[key, empty]]))).toEqual(['Reading the prompt …', 'Waiting …'])
  expect(texts(new Map([[key, { ...empty, tokens: [token] }]]))).toEqual(['', 'Waiting …'])
  expect(texts(new Map([[key, empty]]), 'done')).toEqual(['', ''])
  expect(texts(new Map([[key, { ...empty, end: 'length' as const }]]), 'failed')).toEqual(['', 'Failed, no answer'])
})

test('an ended answer says how much it repeats and whether it loops', () => {
  const ids = (list: number[], end: 'length' | null = 'length') => ({
    tokens: list.map((id) => ({ id, text: '', probability: 1, alternatives: [] })),
    end,
  })
  const loop = Array.from({ length: 32 }, (_, at) => at % 2)
  expect(answers.repetitionText(ids([1, 2, 3, 4, 5, 6]))).toBe('')
  expect(answers.repetitionText(ids([1, 2, 3, 4, 9, 1, 2, 3, 4]))).toBe('17 % repeated')
  expect(answers.repetitionText(ids(loop))).toBe('93 % repeated, ends in a loop')
  expect(answers.repetitionText(ids(loop, null))).toBe('')
})

test('blind columns have an order that survives a reload and has each column once', () => {
  const order = answers.blindOrder(6, 'talk-abc')
  expect(answers.blindOrder(6, 'talk-abc')).toEqual(order)
  expect([...order].sort()).toEqual([0, 1, 2, 3, 4, 5])
})

test('blind titles say nothing of the model', () => {
  const column = {
    model: { id: 'm', name: 'Sample' },
    run: { id: 'r', name: '2SSP 25 %, repaired block by block', method: '2ssp', reached: 0.25 },
  }
  expect(answers.columnTitle(column, 1, true)).toBe('Model B')
  expect(answers.columnTitle(column, 1, false)).toBe('2SSP 25 %, repaired block by block')
})

test('votes are counted per column; a tie of all counts for none of them', () => {
  expect(
    answers.countVotes(
      [
        { prompt: 0, column: 1 },
        { prompt: 1, column: 1 },
        { prompt: 2, column: null },
      ],
      3,
    ),
  ).toEqual([0, 2, 0])
})

test('prompts survive another screen, and what is damaged or not allowed is left alone', () => {
  const kept = new Map<string, string>()
  vi.stubGlobal('sessionStorage', {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => kept.set(key, value),
  })
  try {
    expect(keptPrompts.get()).toEqual([''])
    keptPrompts.set(['One', 'Two'])
    expect(keptPrompts.get()).toEqual(['One', 'Two'])
    for (const damaged of ['{', '[]', '[1]']) {
      for (const key of kept.keys()) kept.set(key, damaged)
      expect(keptPrompts.get()).toEqual([''])
    }
    const decoding = { kind: 'sampling' as const, temperature: 0.3, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 }
    keptSampling.set({ decoding, maxTokens: 24, seed: 7 }, 'talk-1')
    expect(keptSampling.get('talk-1')).toEqual({ decoding, maxTokens: 24, seed: 7 })
    expect(keptSampling.get(undefined)?.seed).toBe(7)
    expect(keptSampling.get('talk-2'), 'another transcript has settings of its own').toBeNull()
    keptSampling.set({ maxTokens: 24, seed: 7 }, undefined)
    expect(keptSampling.get(undefined), 'no decoding that nobody chose').toEqual({ maxTokens: 24, seed: 7 })
    for (const damaged of ['{', '{"settings":{"seed":-1},"transcript":null}', '[1]']) {
      kept.set('espalier sampling', damaged)
      expect(keptSampling.get(undefined)).toBeNull()
    }
  } finally {
    vi.unstubAllGlobals()
  }
  keptPrompts.set(['One'])
  expect(keptPrompts.get(), 'without storage').toEqual([''])
})
