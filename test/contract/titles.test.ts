import { expect, test } from 'vitest'
import { setsRows, sparsityBase } from '#contract/titles.ts'

test('a sparsity is a share of all parameters only for the method that removes rows of the vocabulary', () => {
  expect(sparsityBase(['2ssp', 'gates'])).toBe('the block stack')
  expect(sparsityBase(['vocabulary', 'vocabulary'])).toBe('all parameters')
  expect(sparsityBase(['2ssp', 'vocabulary'])).toBe('the block stack, or of all parameters for Vocabulary')
})

test('only options of the vocabulary say how much a method removes', () => {
  expect([{ rows: 10 }, { share: 0.5 }, { coverage: 0.9 }].map((options) => setsRows('vocabulary', options))).toEqual([true, true, true])
  expect(setsRows('vocabulary', { prior: 0 })).toBe(false)
  expect(setsRows('reap', { share: 0.5 })).toBe(false)
})
