import { expect, test } from 'vitest'
import { changeText, deltaOf } from '#contract/comparison/change.ts'
import { isLowerBetter } from '#contract/runs/measures.ts'

test('a change is in percent with a real minus, and a factor from ten times on', () => {
  expect(changeText({ absolute: 985, relative: 65.7 })).toBe('×67')
  expect(changeText({ absolute: 72.9, relative: 7.29 })).toBe('+729 %')
  expect(changeText({ absolute: -0.5, relative: -0.033 })).toBe('−3.3 %')
  expect(changeText({ absolute: 0, relative: 0 })).toBe('±0')
  expect(changeText({ absolute: -0.002, relative: -0.0002 })).toBe('±0.0 %')
})

test('a lower perplexity and a higher accuracy are better', () => {
  const lower = ['perplexity', 'perplexity, tokens 1 to 512', 'parameters', 'time to first token', 'one of an imported run']
  const higher = ['accuracy', 'prompts followed, loosely', 'numbers found in 512 tokens', 'tokens per second']
  expect([...lower, ...higher].filter(isLowerBetter)).toEqual(lower)
  expect(deltaOf(12, 10, true)).toEqual({ absolute: 2, relative: 0.2, better: false })
  expect(deltaOf(0.6, 0.5, false).better).toBe(true)
  expect(deltaOf(5, 5, true).better).toBeNull()
  expect(deltaOf(0.4 + 1e-9, 0.4, false).better, 'shown as no change').toBeNull()
  expect(deltaOf(1, 0, true).relative).toBeNull()
})
