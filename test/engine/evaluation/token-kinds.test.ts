import { expect, test } from 'vitest'
import { kindOf, scriptOf } from '#engine/evaluation/divergence/token-kinds.ts'

test('the kind of a token follows from its text, the text before it and its line', () => {
  expect(kindOf(' cat', 'The black', ' sat')).toBe('word')
  expect(kindOf('ing', 'They were runn', ' fast')).toBe('word part')
  expect(kindOf(' Paris', 'They went to', ' in')).toBe('name')
  expect(kindOf('stein', 'It was written by Ein', '.')).toBe('name')
  expect(kindOf(' They', 'They left.', ' came')).toBe('word')
  expect(kindOf('The', '', ' end')).toBe('word')
  expect(kindOf(' 19', 'In', '84')).toBe('number')
  expect(kindOf('.', 'It ended', '')).toBe('punctuation')
  expect(kindOf('\n', 'It ended.', '')).toBe('space')
  expect(kindOf('', 'caf', '')).toBe('bytes')
  expect(kindOf(' +', 'let x = foo(y)', ' z;\nprose')).toBe('code')
})

test('a script is that of the first letter', () => {
  expect([' word', ' слово', '東', 'かな', '한', '42', '…', 'Ωmega'].map(scriptOf)).toEqual([
    'Latin',
    'Cyrillic',
    'Han',
    'Kana',
    'Hangul',
    'no letters',
    'no letters',
    'Greek',
  ])
})
