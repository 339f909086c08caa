import { expect, test } from 'vitest'
import { name, tags } from '#contract/identifiers.ts'
import { shownName } from '#contract/words.ts'

test('a name cannot rearrange the text around it, and letters of any direction stay', () => {
  expect(shownName('model\u202egpj.exe')).toBe('model\ufffdgpj.exe')
  expect(shownName('two\r\nlines\u2028three\tfour')).toBe('two lines three four')
  for (const kept of ['מודל', 'نموذج\u200cها', '👩‍🔬 e\u0301', 'ﬁ']) expect(shownName(kept)).toBe(kept)
})

test('names and tags that are given or returned are shown so', () => {
  expect(name.parse('\u2067a\nb\u2069 ')).toBe('\ufffda b\ufffd')
  expect(tags.parse(['a\u202eb'])).toEqual(['a\ufffdb'])
  expect(() => name.parse('\n\r')).toThrow()
})
