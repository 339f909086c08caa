import { expect, test } from 'vitest'
import { capitalize, countCodePoints, splitTrailingSpace, strip } from '#engine/evaluation/tasks/python-text.ts'

test('capitalize raises the first character and lowers all the rest, as Python does', () => {
  const pairs = {
    '': '',
    'the MAN Said NASA': 'The man said nasa',
    ' Leading SPACE': ' leading space',
    '1ST': '1st',
    élan: 'Élan',
    ßTRASSE: 'Sstrasse',
    ǆABC: 'ǅabc',
    ŉX: 'ʼNx',
    'ὈΔΟΣ ΑΣ': 'Ὀδος ας',
    ᾀΣ: 'ᾈς',
    ᾷ: 'ᾼ͂',
    აბ: 'აბ',
    İX: 'İx',
    𐐨𐐀: '𐐀𐐨',
  }
  for (const [text, expected] of Object.entries(pairs)) expect(capitalize(text), text).toBe(expected)
})

test('strip takes what Python counts as white space and nothing else', () => {
  expect(strip('\u001f\u0085\u00a0\u2003 a \u3000\n')).toBe('a')
  expect(strip('\ufeffa\u200b')).toBe('\ufeffa\u200b')
  expect(splitTrailingSpace('a b \u0085\n')).toEqual(['a b', ' \u0085\n'])
  expect(splitTrailingSpace('  ')).toEqual(['', '  '])
})

test('length counts code points, not UTF-16 units or bytes', () => {
  expect(countCodePoints('é😀日')).toBe(3)
  expect(countCodePoints('e\u0301')).toBe(2)
})
