import { expect, test } from 'vitest'
import { corpusOf } from '#contract/data/source-name.ts'

test.each([
  ['c4-train', 'c4'],
  ['/data/c4_val/c4-validation.00000-of-00008.json.gz', 'c4'],
  ['wikitext2', 'wikitext2'],
  ['/data/wikitext-2/test.txt', 'wikitext2'],
  ['C:\\texts\\Novel held-out.txt', 'novel'],
  ['/sample-model/calibration.txt', 'samplemodel'],
  ['/texts/prose.txt', 'prose'],
  ['fineweb-edu', 'finewebedu'],
  ['test', 'test'],
])('%s is a part of %s', (source, corpus) => {
  expect(corpusOf(source)).toBe(corpus)
})
