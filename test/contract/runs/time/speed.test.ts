import { expect, test } from 'vitest'
import { comparedValue, noiseOfTimes } from '#contract/runs/time/speed.ts'

const load = (value: number) => ({ name: 'load by others', dataset: 'while timing', value })
const pass = (value: number, error: number) => ({ name: 'inference time', dataset: '128 tokens', value, error })
const lookUp = (values: Record<string, number>) => (id: string) => values[id]

test('a busy machine and uneven passes are reasons not to quote a time, a quiet one is none', () => {
  expect(noiseOfTimes([load(0.02), pass(20, 0.5)])).toEqual([])
  expect(noiseOfTimes([load(0.43), pass(20, 0.5)])).toEqual(['other programs used 43 % of the processor'])
  expect(noiseOfTimes([load(0.02), pass(20, 6)])).toHaveLength(1)
})

test('a time is compared with what the dense model took in the same turns, not with its own run in another hour', () => {
  const dense = lookUp({ 'inference time/128 tokens': 90 })
  const own = lookUp({ 'speed-up/prefill': 1.5, 'speed-up/decode': 2 })
  expect(comparedValue({ name: 'inference time', dataset: '128 tokens' }, 20, own, dense, true)).toBeCloseTo(30)
  expect(comparedValue({ name: 'tokens per second', dataset: 'decode' }, 500, own, dense, true)).toBeCloseTo(250)
})

test('two pruned runs are compared by their speed-ups, and times without one not at all', () => {
  const [own, other] = [lookUp({ 'speed-up/prefill': 2 }), lookUp({ 'speed-up/prefill': 1 })]
  expect(comparedValue({ name: 'inference time', dataset: '128 tokens' }, 20, own, other, false)).toBeCloseTo(40)
  expect(comparedValue({ name: 'inference time', dataset: '128 tokens' }, 20, lookUp({}), other, false)).toBeUndefined()
  expect(comparedValue({ name: 'load by others', dataset: 'while timing' }, 0.4, own, other, false)).toBeUndefined()
})

test('what no load changes is compared directly', () => {
  expect(comparedValue({ name: 'perplexity', dataset: 'text' }, 20, lookUp({}), lookUp({ 'perplexity/text': 10 }), true)).toBe(10)
})

test('a time in llama.cpp is compared with one in llama.cpp only, also with a dense model of another weight type', () => {
  const own = lookUp({ 'speed-up/decode in llama.cpp': 3, 'speed-up/decode': 9 })
  const rate = { name: 'tokens per second', dataset: 'decode in llama.cpp' }
  expect(comparedValue(rate, 300, own, lookUp({}), true)).toBeCloseTo(100)
  expect(comparedValue(rate, 300, own, lookUp({ 'speed-up/decode in llama.cpp': 2, 'speed-up/decode': 1 }), true)).toBeCloseTo(200)
})
