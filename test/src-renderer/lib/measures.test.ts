import { expect, test } from 'vitest'
import { orderMeasures } from '../../../src-renderer/lib/measures.ts'

test('quality comes before speed and speed before size, whatever came first', () => {
  const measures = [
    { name: 'parameters', unit: 'parameters' },
    { name: 'tokens per second', unit: 'tokens/s' },
    { name: 'acc_norm', unit: 'share' },
    { name: 'perplexity', unit: '' },
  ]
  expect(orderMeasures(measures).map(({ name }) => name)).toEqual(['perplexity', 'acc_norm', 'tokens per second', 'parameters'])
})
