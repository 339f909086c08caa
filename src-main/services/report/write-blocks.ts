import { tableTexts } from '#contract/comparison/cell-text.ts'
import { escapeMarkdown, markdownCode, markdownLine, markdownQuote } from '#contract/markdown.ts'
import { toMarkdown as tableToMarkdown } from '../comparison/table-text.ts'
import type { Block } from './blocks.ts'

/** Forbids requests and scripts, whatever a model's text contains. */
const policy = "default-src 'none'; style-src 'unsafe-inline'"

const styles = `
:root { color-scheme: light dark; --ink: light-dark(#1d2125, #e6e8ea); --faint: light-dark(#57606a, #9aa4ae); --paper: light-dark(#ffffff, #15181b);
  --line: light-dark(#d5dade, #363c42); --mark: light-dark(#ffd7b5, #6b3410); }
body { max-width: 84rem; margin: 2rem auto; padding: 0 1.5rem; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
p { max-width: 52rem; } h1 { font-size: 1.7rem; } h2 { margin-top: 2.4rem; border-bottom: 1px solid var(--line); } h3 { margin-top: 1.6rem; }
table { border-collapse: collapse; margin: 0.8rem 0; font-size: 0.87rem; } caption { text-align: left; color: var(--faint); padding-bottom: 0.3rem; }
caption span { display: block; max-width: min(52rem, calc(100vw - 3rem)); }
th, td { padding: 0.22rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; } .best { font-weight: 650; }
tbody td:first-child, td.number { white-space: nowrap; }
.scroll { overflow-x: auto; } .beside { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 0.4rem 2rem; align-items: start; }
.beside h3, .beside h4 { margin: 0.6rem 0 0.3rem; } figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
pre { padding: 0.7rem 1rem; border: 1px solid var(--line); overflow-x: auto; white-space: pre-wrap; font-size: 0.85rem; }
mark { background: var(--mark); color: inherit; } .note { color: var(--faint); font-size: 0.85rem; }
blockquote { margin: 0.4rem 0; padding: 0.2rem 1rem; border-left: 3px solid var(--line); white-space: pre-wrap; overflow-wrap: anywhere; }
@media screen and (prefers-color-scheme: dark) { .plot svg { filter: invert(0.92) hue-rotate(180deg); } }
@media print { :root { color-scheme: light; } body { margin: 0; max-width: none; } h2, h3 { break-after: avoid; } tr, figure, blockquote { break-inside: avoid; } .scroll { overflow: visible; } }`

/** Writes a report as one self-contained HTML file. */
export function toHtml(title: string, blocks: readonly Block[]): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${styles}
</style>
</head>
<body>
<main>
${blocks.map(blockHtml).join('\n')}
</main>
</body>
</html>
`
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`)
}

function blockHtml(block: Block): string {
  switch (block.kind) {
    case 'heading':
      return `<h${block.level}>${escapeHtml(block.text)}</h${block.level}>`
    case 'text':
      return `<p>${escapeHtml(block.text)}</p>`
    case 'code':
      return `<pre><code>${escapeHtml(block.text)}</code></pre>`
    case 'picture':
      return `<figure${block.onWhite ? ' class="plot"' : ''} role="img" aria-label="${escapeHtml(block.alternative)}">${block.svg}</figure>`
    case 'place':
      return `<blockquote>…${escapeHtml(block.before)}<mark>${escapeHtml(shown(block.marked))}</mark>\n<span class="note">${escapeHtml(block.note)}</span></blockquote>`
    case 'answer':
      return `<h4>${escapeHtml(block.title)}</h4>\n<blockquote>${block.pieces
        .map(({ text, changed }) => (changed ? `<mark>${escapeHtml(text)}</mark>` : escapeHtml(text)))
        .join('')}\n<span class="note">${escapeHtml(block.note)}</span></blockquote>`
    case 'beside':
      return `<div class="beside">${block.groups.map((blocks) => `<div>${blocks.map(blockHtml).join('\n')}</div>`).join('\n')}</div>`
    case 'table':
      return tableHtml(block)
  }
}

/** Makes marked white space visible. */
function shown(text: string): string {
  return /^\s*$/.test(text) ? text.replaceAll('\n', '↵').replaceAll(' ', '␣').replaceAll('\t', '⇥') || '∅' : text
}

function tableHtml({ table, caption }: Extract<Block, { kind: 'table' }>): string {
  const { columns, rows } = table
  const texts = tableTexts(table)
  const classOf = (at: number, best = false) => {
    const names = [columns[at]?.numeric ? 'number' : '', best ? 'best' : ''].filter(Boolean).join(' ')
    return names ? ` class="${names}"` : ''
  }
  const head = columns.map(({ label }, at) => `<th scope="col"${classOf(at)}>${escapeHtml(label)}</th>`).join('')
  const body = rows.map(
    (row, line) => `<tr>${row.map((cell, at) => `<td${classOf(at, cell.best)}>${escapeHtml(texts[line]?.[at] ?? '')}</td>`).join('')}</tr>`,
  )
  return `<div class="scroll" tabindex="0" role="region" aria-label="${escapeHtml(caption ?? 'Table')}"><table>${caption ? `<caption><span>${escapeHtml(caption)}</span></caption>` : ''}<thead><tr>${head}</tr></thead><tbody>${body.join('\n')}</tbody></table></div>`
}

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
