import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { documents, linkOf } from '../../../../src-renderer/features/help/documents.ts'
import { type Block, parseMarkdown, parseSpans, type Span } from '../../../../src-renderer/features/help/markdown.ts'

const root = join(import.meta.dirname, '../../../..')

test('the kinds of blocks', () => {
  const text = [
    '# Title: a `b`',
    '',
    'One line',
    'and another.',
    '',
    '- first',
    '  more',
    '- second',
    '  1. inner',
    '',
    '```sh',
    '- x | y',
    '```',
    '| a | b |',
    '| - | - |',
    '| 1 | `x \\| y` |',
  ].join('\n')
  expect(parseMarkdown(text)).toEqual([
    {
      kind: 'heading',
      level: 1,
      id: 'title-a-b',
      spans: [
        { kind: 'text', text: 'Title: a ' },
        { kind: 'code', text: 'b' },
      ],
    },
    { kind: 'paragraph', spans: [{ kind: 'text', text: 'One line and another.' }] },
    {
      kind: 'list',
      ordered: false,
      items: [
        [{ kind: 'paragraph', spans: [{ kind: 'text', text: 'first more' }] }],
        [
          { kind: 'paragraph', spans: [{ kind: 'text', text: 'second' }] },
          { kind: 'list', ordered: true, items: [[{ kind: 'paragraph', spans: [{ kind: 'text', text: 'inner' }] }]] },
        ],
      ],
    },
    { kind: 'code', text: '- x | y' },
    {
      kind: 'table',
      head: [[{ kind: 'text', text: 'a' }], [{ kind: 'text', text: 'b' }]],
      rows: [[[{ kind: 'text', text: '1' }], [{ kind: 'code', text: 'x | y' }]]],
    },
  ])
})

test('what looks like HTML stays text, and names with underscores stay whole', () => {
  expect(parseSpans('<script>alert(1)</script> snake_case_name and _this_')).toEqual([
    { kind: 'text', text: '<script>alert(1)</script> snake_case_name and ' },
    { kind: 'emphasis', text: 'this' },
  ])
})

const spansOf = (blocks: readonly Block[]): Span[] =>
  blocks.flatMap((block) => {
    if (block.kind === 'list') return block.items.flatMap(spansOf)
    if (block.kind === 'table') return [...block.head, ...block.rows.flat()].flat()
    return block.kind === 'code' ? [] : block.spans
  })

const names = ['start', ...readdirSync(join(root, 'docs')).flatMap((name) => (name.endsWith('.md') ? [name.slice(0, -3)] : []))]
const forReaders = names.filter((name) => name !== 'architecture' && name !== 'contributing')

test('every document for users is listed', () => {
  expect(Object.keys(documents)).toEqual(expect.arrayContaining(forReaders))
})

test.each(forReaders)('%s is parsed whole, and its links lead to headings that are there', (name) => {
  const read = (id: string) => parseMarkdown(readFileSync(join(root, id === 'start' ? 'README.md' : `docs/${id}.md`), 'utf8'))
  const blocks = read(name)
  const spans = spansOf(blocks)
  // Marks that are left in the text were not understood.
  for (const { kind, text } of spans) if (kind === 'text') expect(text).not.toMatch(/`|\*\*|\]\(/)
  for (const found of spans) {
    const link = found.kind === 'link' ? linkOf(found.target, name as keyof typeof documents) : undefined
    const [, id = '', anchor] = /^#\/help\/([\w-]+)(?:\?at=(.*))?$/.exec(link ?? '') ?? []
    if (anchor) expect(read(id).map((block) => (block.kind === 'heading' ? block.id : ''))).toContain(decodeURIComponent(anchor))
  }
})
