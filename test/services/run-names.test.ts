import { expect, test } from 'vitest'
import { fileName, runName } from '#services/experiments/grid.ts'

const request = { method: '2ssp', amount: { sparsity: 0.375 }, options: {}, seed: 1, measures: [], backend: 'auto' as const }

test('a run is named by what makes it differ from others', () => {
  expect(runName(request, 1)).toBe('2SSP 37.5 %')
  expect(runName(request, 3)).toBe('2SSP 37.5 %, seed 1')
  expect(runName({ ...request, method: 'dense' }, 3)).toBe('dense')
})

test('the name of a first look says so, because tables and exports show it beside the numbers', () => {
  expect(runName({ ...request, precision: 'bfloat16' }, 1)).toBe('2SSP 37.5 %, bfloat16')
  expect(runName({ ...request, method: 'dense', precision: 'bfloat16' }, 1)).toBe('dense, bfloat16')
  expect(runName({ ...request, precision: 'mixed' }, 1)).toBe('2SSP 37.5 %')
})

test('budgets that differ in any digit have different names', () => {
  const named = (bytes: number) => runName({ ...request, amount: { bytes, format: 'gguf' } }, 1)
  const divided = (bytes: number) => {
    const type = `MIXED:${bytes}` as const
    return runName({ ...request, method: 'gates', amount: { bytes, format: 'gguf', type }, weights: type }, 1)
  }
  const typed = (bytes: number) => runName({ ...request, weights: `MIXED:${bytes}` }, 1)
  for (const name of [named, divided, typed]) expect(name(94_312_345)).not.toBe(name(94_312_346))
  expect(named(94_312_345)).toBe('2SSP 94.312345 MB')
  expect(divided(1_610_612_736)).toBe('Gates 1.610612736 GB of mixed types')
  expect(typed(1_610_612_736)).toBe('2SSP 37.5 %, mixed types (1,610.612736 MB)')
})

test('a recovered run says how long it trained', () => {
  const recover = { amount: { tokens: 32_768 }, text: { source: 'mixed', sequenceLength: 512 } }
  expect(runName({ ...request, recover }, 1)).toBe('2SSP 37.5 %, recovered with 32,768 tokens')
})

test('a file is named without its seed, with its type after it', () => {
  expect(fileName({ ...request, options: { alpha: 2 }, weights: 'Q4_0' })).toBe('2SSP 37.5 %, alpha 2 in Q4_0')
  expect(fileName({ ...request, method: 'dense', weights: 'Q4_0' })).toBe('dense Q4_0')
  expect(fileName({ ...request, precision: 'bfloat16' })).toBe('2SSP 37.5 %, bfloat16')
})

test('options are named in words, and lists are written as lists', () => {
  expect(runName({ ...request, options: { channelShare: 0.5 } }, 1)).toBe('2SSP 37.5 %, channel share 0.5')
  const ablation = { ...request, method: 'l1_norm', options: { sparsities: [0.25, 0.37, 0.5], windows: 4 } }
  expect(runName(ablation, 1)).toBe('Ablation: L1 norm, sparsities 0.25, 0.37 and 0.5, windows 4')
})
