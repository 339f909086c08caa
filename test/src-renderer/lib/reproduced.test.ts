import { expect, test } from 'vitest'
import { reproducedNumbers } from '../../../src-renderer/lib/reproduced.ts'

const number = (name: string, value: number) => ({ name, dataset: name === 'perplexity' ? 'test' : '', value, unit: '' })

test('each number of a description is equal, another or missing here; times are not compared', () => {
  const described = [number('perplexity', 12.5), number('parameters', 100), number('size', 7), number('inference time', 3)]
  expect(reproducedNumbers([...described, number('pruning time', 3)], [number('perplexity', 12.5), number('parameters', 101)])).toEqual([
    { title: 'perplexity test', described: '12.50', here: '12.50', equal: true },
    { title: 'parameters', described: '100', here: '101', equal: false },
    { title: 'size', described: '7', here: null, equal: false },
  ])
})

test('numbers that differ only in later digits are shown with them', () => {
  expect(reproducedNumbers([number('perplexity', 197.07198)], [number('perplexity', 197.07197)])).toEqual([
    { title: 'perplexity test', described: '197.07198', here: '197.07197', equal: false },
  ])
})
