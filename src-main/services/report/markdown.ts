import { toMarkdown as tableToMarkdown } from '../comparison/table-text.ts'
import type { Block } from './blocks.ts'

/** A report as Markdown; pictures become what they say in words. */
export function toMarkdown(blocks: readonly Block[]): string {
  return `${blocks.map(blockText).join('\n\n')}\n`
}

function blockText(block: Block): string {
  switch (block.kind) {
    case 'heading':
      return `${'#'.repeat(block.level)} ${oneLine(block.text)}`
    case 'text':
      return escaped(block.text)
    case 'code':
      return block.text
        .split('\n')
        .map((line) => `    ${line}`)
        .join('\n')
    case 'picture':
      return escaped(block.alternative)
    case 'place':
      return `> …${oneLine(block.before)} **${oneLine(block.marked).trim() || '(white space)'}**\n>\n> ${escaped(block.note)}`
    case 'answer':
      return `#### ${oneLine(block.title)}\n\n${quoted(block.pieces.map(({ text }) => text).join(''))}\n>\n> ${escaped(block.note)}`
    case 'beside':
      return block.groups.map((blocks) => blocks.map(blockText).join('\n\n')).join('\n\n')
    case 'table':
      return `${block.caption ? `${escaped(block.caption)}\n\n` : ''}${tableToMarkdown(block.table).trimEnd()}`
  }
}

const escaped = (text: string): string => text.replace(/[\\`*_<>[\]#|]/g, '\\$&')
const oneLine = (text: string): string => escaped(text.replaceAll('\n', ' ⏎ '))
const quoted = (text: string): string =>
  text
    .split('\n')
    .map((line) => `> ${escaped(line)}`)
    .join('\n')
