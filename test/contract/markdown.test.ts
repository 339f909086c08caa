import { describe, expect, test } from 'vitest'
import { escapeMarkdown, markdownCode, markdownLine, markdownQuote } from '#contract/markdown.ts'
import type { Transcript } from '#contract/playground/playground.ts'
import { tableFile } from '#services/comparison/table-text.ts'
import { transcriptFile } from '#services/playground/transcripts.ts'
import type { Block } from '#services/report/blocks.ts'
import { toMarkdown } from '#services/report/write-blocks.ts'

const hostile = '<img src=x onerror=alert(1)> ![a](http://127.0.0.1/p.png)\r<script>1</script>\n[x]: javascript:1\r\n&lt;b&gt; `c`'

/** The part of a Markdown text that the renderer would act on: without escaped characters and code blocks. */
const active = (markdown: string) =>
  markdown
    .split(/\r\n|\r|\n/)
    .filter((line) => !line.startsWith('    '))
    .join('\n')
    .replace(/\\[!-/:-@[-`{-~]/g, '')

const expectInert = (markdown: string) => expect(active(markdown)).not.toMatch(/[<`&]|!\[|\]\(|^\[/m)

test('raw HTML, images, links and entities are only text, in a line, a quotation and code', () => {
  for (const write of [escapeMarkdown, markdownLine, markdownQuote, markdownCode]) expectInert(write(hostile))
})

test('a carriage return ends neither a quotation nor a block of code', () => {
  expect(markdownQuote('a\rb\r\nc')).toBe('> a\n> b\n> c')
  expect(markdownCode('a\rb')).toBe('    a\n    b')
  expect(markdownLine('a\rb')).toBe('a ⏎ b')
})

describe('what is saved as Markdown is inert whatever names and answers hold:', () => {
  test('a transcript', () => {
    const transcript = {
      title: hostile,
      createdAt: 0,
      prompts: [hostile],
      columns: [{ model: { name: hostile }, run: { name: hostile } }],
      answers: [{ column: 0, prompt: 0, text: hostile, tokens: [], seconds: 1, tokensPerSecond: 1, end: 'length' }],
      notes: hostile,
      settings: { seed: 0, decoding: {} },
    } as unknown as Transcript
    expectInert(transcriptFile([transcript], 'markdown').content)
  })

  test('a table', () => {
    const table = { columns: [{ label: hostile, numeric: false }], rows: [[{ value: hostile, best: true }]] }
    expectInert(tableFile(table, 'markdown', 'x').content)
  })

  test('a report', () => {
    const blocks: Block[] = [
      { kind: 'heading', level: 1, text: hostile },
      { kind: 'text', text: hostile },
      { kind: 'code', text: hostile },
      { kind: 'picture', svg: '', alternative: hostile },
      { kind: 'place', before: hostile, marked: hostile, note: hostile },
      { kind: 'answer', title: hostile, note: hostile, pieces: [{ text: hostile, changed: true }] },
      { kind: 'table', table: { columns: [{ label: hostile, numeric: false }], rows: [] }, caption: hostile },
    ]
    for (const block of blocks) expectInert(toMarkdown([block]))
  })
})
