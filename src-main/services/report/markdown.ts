import { escapeMarkdown, markdownCode, markdownLine, markdownQuote } from '#contract/markdown.ts'
import { toMarkdown as tableToMarkdown } from '../comparison/table-text.ts'
import type { Block } from './blocks.ts'

/** Writes a report as Markdown. Pictures become their descriptions. */
export function toMarkdown(blocks: readonly Block[]): string {
  return `${blocks.map(blockText).join('\n\n')}\n`
}

function blockText(block: Block): string {
  switch (block.kind) {
    case 'heading':
      return `${'#'.repeat(block.level)} ${markdownLine(block.text)}`
    case 'text':
      return escapeMarkdown(block.text)
    case 'code':
      return markdownCode(block.text)
    case 'picture':
      return escapeMarkdown(block.alternative)
    case 'place':
      return `> …${markdownLine(block.before)} **${markdownLine(block.marked).trim() || '(white space)'}**\n>\n> ${escapeMarkdown(block.note)}`
    case 'answer':
      return `#### ${markdownLine(block.title)}\n\n${markdownQuote(block.pieces.map(({ text }) => text).join(''))}\n>\n> ${escapeMarkdown(block.note)}`
    case 'beside':
      return block.groups.map((blocks) => blocks.map(blockText).join('\n\n')).join('\n\n')
    case 'table':
      return `${block.caption ? `${escapeMarkdown(block.caption)}\n\n` : ''}${tableToMarkdown(block.table).trimEnd()}`
  }
}
