import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type MarkedToken, walkTokens } from 'marked'
import { expect, test } from 'vitest'
import { documents, linkOf } from '../../../../src-renderer/features/help/documents.ts'
import { anchorOf, parseMarkdown, tokensIn } from '../../../../src-renderer/features/help/markdown.ts'

const root = join(import.meta.dirname, '../../../..')

test('HTML and comments are left out, and names with underscores stay whole', () => {
  const [paragraph, ...others] = parseMarkdown('snake_case_name and _this_\n\n<!-- generated -->\n\n<script>alert(1)</script>\n')
  expect(others).toEqual([])
  const spans = paragraph ? tokensIn(paragraph) : []
  expect(spans.map(({ type, raw }) => [type, raw])).toEqual([
    ['text', 'snake_case_name and '],
    ['em', '_this_'],
  ])
})

/** Every token of a document, however deep. */
const allIn = (tokens: readonly MarkedToken[]): MarkedToken[] => {
  const all: MarkedToken[] = []
  void walkTokens([...tokens], (token) => {
    all.push(token as MarkedToken)
  })
  return all
}

const names = ['start', ...readdirSync(join(root, 'docs')).flatMap((name) => (name.endsWith('.md') ? [name.slice(0, -3)] : []))]
const forReaders = names.filter((name) => name !== 'architecture' && name !== 'contributing')

test('every document for users is listed', () => {
  expect(Object.keys(documents)).toEqual(expect.arrayContaining(forReaders))
})

test.each(forReaders)('%s is parsed whole, and its links lead to headings that are there', (name) => {
  const read = (id: string) => parseMarkdown(readFileSync(join(root, id === 'start' ? 'README.md' : `docs/${id}.md`), 'utf8'))
  const blocks = read(name)
  const shown = new Set([
    'code',
    'codespan',
    'em',
    'heading',
    'image',
    'link',
    'list',
    'list_item',
    'paragraph',
    'space',
    'strong',
    'table',
    'text',
    'escape',
  ])
  for (const token of allIn(blocks)) {
    // The page shows these kinds. Marks that are left in a text were not understood.
    expect(shown).toContain(token.type)
    if (token.type === 'text' && !token.tokens) expect(token.text).not.toMatch(/`|\*\*|\]\(/)
    if (token.type === 'image') expect(existsSync(join(root, 'docs', token.href.replace(/^docs\//, '')))).toBe(true)
    const link = token.type === 'link' ? linkOf(token.href, name as keyof typeof documents) : undefined
    const [, id = '', anchor] = /^#\/help\/([\w-]+)(?:\?at=(.*))?$/.exec(link ?? '') ?? []
    if (anchor)
      expect(read(id).map((block) => (block.type === 'heading' ? anchorOf(block.text) : ''))).toContain(decodeURIComponent(anchor))
  }
})
