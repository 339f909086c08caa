import { expect, test } from 'vitest'
import { parameterText, parameterTitle } from '#contract/runs/parameter-titles.ts'

test('every part of an amount has a title', () => {
  const parts = ['sparsity', 'blocks', 'bytes', 'format', 'type', 'tokensPerSecond', 'milliseconds', 'prompt']
  expect(parts.filter((part) => parameterTitle(`amount.${part}`) === undefined)).toEqual([])
})

test('mixed types are named by the size of their file', () => {
  expect(parameterText('weights', 'MIXED:2000000')).toBe('mixed types (2 MB)')
})

test('weights of no type are as computed, other missing values a dash', () => {
  expect([parameterText('weights', undefined), parameterText('weights', 'Q4_0'), parameterText('alpha', undefined)]).toEqual([
    'as computed',
    'Q4_0',
    '–',
  ])
})
