import { expect, test } from 'vitest'
import { orderMeasures, perplexityAdvice } from '../../../src-renderer/lib/measures.ts'

test('quality comes before speed and speed before size, whatever came first', () => {
  const measures = [
    { name: 'parameters', unit: 'parameters' },
    { name: 'tokens per second', unit: 'tokens/s' },
    { name: 'acc_norm', unit: 'share' },
    { name: 'perplexity', unit: '' },
  ]
  expect(orderMeasures(measures).map(({ name }) => name)).toEqual(['perplexity', 'acc_norm', 'tokens per second', 'parameters'])
})

test('a perplexity far above the dense one warns of broken answers, a near one says nothing', () => {
  expect(perplexityAdvice(1.39)).toBe('')
  expect(perplexityAdvice(1.61)).toMatch(/^Perplexity is 1\.6 times as high as before pruning: expect answers that go astray\./)
  expect(perplexityAdvice(2.99)).toMatch(/^Perplexity is 3 times as high as before pruning: expect broken answers\./)
  expect(perplexityAdvice(1.61) + perplexityAdvice(2.99), 'the run is of another model').not.toContain('SmolLM2')
})
