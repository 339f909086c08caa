import Papa from 'papaparse'
import { cellText } from '#contract/comparison/cell-text.ts'
import type { Table, TableCell } from '#contract/comparison/table.ts'
import type { TextFile } from '#contract/identifiers.ts'
import { escapeMarkdown } from '#contract/markdown.ts'
import type { TableFormat } from '#contract/titles.ts'

/** Makes a table of plain values. A column is numeric if one of its values is a number. */
export function plainTable(labels: readonly string[], rows: readonly (readonly TableCell['value'][])[]): Table {
  return {
    columns: labels.map((label, at) => ({ label, numeric: rows.some((row) => typeof row[at] === 'number') })),
    rows: rows.map((row) => row.map((value) => ({ value }))),
  }
}

/** Writes a table as a file, in a format for papers or spreadsheets. */
export function tableFile(table: Table, format: TableFormat, name: string): TextFile {
  if (format === 'csv') return { fileName: `${name}.csv`, type: 'text/csv', content: toCsv(table) }
  if (format === 'markdown') return { fileName: `${name}.md`, type: 'text/markdown', content: toMarkdown(table) }
  return { fileName: `${name}.tex`, type: 'application/x-tex', content: toLatex(table) }
}

/**
 * Writes CSV by RFC 4180 with full precision. Spreads and notes get columns of their own. Text that a spreadsheet would run as a formula is
 * escaped.
 */
export function toCsv({ columns, rows }: Table): string {
  const spread = columns.map((_, at) => rows.some((row) => typeof row[at]?.spread === 'number'))
  const note = columns.map((_, at) => rows.some((row) => row[at]?.note))
  const header = columns.flatMap(({ label }, at) => [
    label,
    ...(spread[at] ? [`${label} deviation`] : []),
    ...(note[at] ? [`${label} note`] : []),
  ])
  const lines = rows.map((row) =>
    row.flatMap((cell, at) => [cell.value, ...(spread[at] ? [cell.spread ?? null] : []), ...(note[at] ? [cell.note ?? null] : [])]),
  )
  return `${Papa.unparse([header, ...lines], { newline: '\r\n', escapeFormulae: true })}\r\n`
}

export function toMarkdown({ columns, rows }: Table): string {
  const escaped = (text: string) => escapeMarkdown(text.replace(/[\r\n]+/g, ' '))
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`
  const body = rows.map((row) => line(row.map((cell) => (cell.best ? `**${escaped(cellText(cell))}**` : escaped(cellText(cell))))))
  return `${[line(columns.map(({ label }) => escaped(label))), line(columns.map(({ numeric }) => (numeric ? '---:' : '---'))), ...body].join('\n')}\n`
}

/** Writes a LaTeX table with booktabs. The best value of a column is bold, and an arrow shows which direction is better. */
export function toLatex({ columns, rows }: Table): string {
  const arrow = { lower: ' $\\downarrow$', higher: ' $\\uparrow$' }
  const head = columns.map(({ label, better }) => escapeLatex(label) + (better ? arrow[better] : ''))
  const body = rows.map((row) => row.map((cell) => (cell.best ? `\\textbf{${latexCell(cell)}}` : latexCell(cell))))
  const line = (cells: string[]) => `  ${cells.join(' & ')} \\\\`
  return [
    '% \\usepackage{booktabs}',
    `\\begin{tabular}{${columns.map(({ numeric }) => (numeric ? 'r' : 'l')).join('')}}`,
    '  \\toprule',
    line(head),
    '  \\midrule',
    ...body.map(line),
    '  \\bottomrule',
    '\\end{tabular}',
    '',
  ].join('\n')
}

function latexCell(cell: TableCell): string {
  if (cell.value === null) return '--'
  return escapeLatex(cellText(cell)).replace(' ± ', ' $\\pm$ ').replaceAll('−', '$-$')
}

const latexSpecials: Record<string, string> = { '\\': '\\textbackslash{}', '~': '\\textasciitilde{}', '^': '\\textasciicircum{}' }

function escapeLatex(text: string): string {
  return text.replace(/[\\~^&%$#_{}]/g, (sign) => latexSpecials[sign] ?? `\\${sign}`)
}
