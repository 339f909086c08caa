import { expect, test } from 'vitest'
import { documents, linksIn, problemOf, readDocument } from './markdown.ts'

test.each(documents)('every link and picture of %s exists', (document) => {
  expect(linksIn(readDocument(document)).flatMap((link) => problemOf(document, link) ?? [])).toEqual([])
})

test('a missing file and a missing heading are found', () => {
  expect(linksIn('[a](gone.md) ![b](docs/gone.png) [c](https://example.org) `[d](code)`')).toEqual(['gone.md', 'docs/gone.png', 'code'])
  expect(problemOf('README.md', 'gone.md')).toBe('README.md links to gone.md, which does not exist.')
  expect(problemOf('README.md', 'docs/results.md#no-such-heading')).toContain('has no such heading')
  expect(problemOf('README.md', 'docs/results.md#costs-on-the-sample-model')).toBeUndefined()
})
