import Papa from 'papaparse'
import { tableTexts } from '#contract/comparison/cell-text.ts'
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
  return { fileName: `${name}.tex`, type: 'application/x-tex', content: toLatex(table, name) }
}

/**
 * Writes CSV by RFC 4180 with full precision. Spreads, 95 % intervals, counts, marks of the best and notes get columns of their own; the
 * best are `tied` if they do not differ clearly. Caption and notes are lines at the end that begin with `#`. Text that a spreadsheet would
 * run as a formula is escaped.
 */
export function toCsv({ columns, rows, caption, notes = [] }: Table): string {
  const extras = columns.map((_, at) => extrasOf(rows.flatMap((row) => row[at] ?? [])))
  const header = columns.flatMap(({ label }, at) => [label, ...(extras[at] ?? []).map(({ title }) => `${label} ${title}`)])
  const lines = rows.map((row) => row.flatMap((cell, at) => [cell.value, ...(extras[at] ?? []).map(({ read }) => read(cell))]))
  const remarks = [...(caption === undefined ? [] : [caption]), ...notes].map((text) => [`# ${text}`])
  return `${Papa.unparse([header, ...lines, ...remarks], { newline: '\r\n', escapeFormulae: true })}\r\n`
}

/** A column of CSV for something that some cells of a column have besides their value. */
interface ExtraColumn {
  readonly title: string
  read(cell: TableCell): string | number | null
}

/** Returns the extra columns that a column with these cells needs. */
function extrasOf(cells: readonly TableCell[]): ExtraColumn[] {
  const isFactor = cells.some(({ factor }) => factor)
  const hasInterval = cells.some(({ low }) => typeof low === 'number')
  const extras: (ExtraColumn & { isUsed: boolean })[] = [
    {
      title: `deviation${isFactor ? ' as a factor' : ''}`,
      isUsed: cells.some(({ spread }) => typeof spread === 'number'),
      read: ({ spread }) => spread ?? null,
    },
    { title: '95 % low', isUsed: hasInterval, read: ({ low }) => low ?? null },
    { title: '95 % high', isUsed: hasInterval, read: ({ high }) => high ?? null },
    { title: 'results', isUsed: cells.some(({ count }) => count !== undefined), read: ({ count }) => count ?? null },
    { title: 'best', isUsed: cells.some(({ best }) => best), read: ({ best, tied }) => (best ? (tied ? 'tied' : 'best') : null) },
    { title: 'note', isUsed: cells.some(({ note }) => note), read: ({ note }) => note ?? null },
  ]
  return extras.filter(({ isUsed }) => isUsed)
}

export function toMarkdown(table: Table): string {
  const { columns, rows, caption, notes: own = [] } = table
  const texts = tableTexts(table)
  const notes = [...(caption === undefined ? [] : [caption]), ...own]
  const escaped = (text: string) => escapeMarkdown(text.replace(/[\r\n]+/g, ' '))
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`
  const body = rows.map((row, at) =>
    line(row.map(({ best }, column) => (best ? `**${escaped(texts[at]?.[column] ?? '')}**` : escaped(texts[at]?.[column] ?? '')))),
  )
  const lines = [line(columns.map(({ label }) => escaped(label))), line(columns.map(({ numeric }) => (numeric ? '---:' : '---'))), ...body]
  return `${lines.join('\n')}\n${notes.length > 0 ? `\n${escaped(notes.join(' '))}\n` : ''}`
}

/**
 * Writes a LaTeX table with booktabs. With a caption it floats, and has a label made of `name`. The best values of a column are bold, and an
 * arrow shows which direction is better.
 */
export function toLatex(table: Table, name = 'results'): string {
  const { columns, rows, caption, notes = [] } = table
  const texts = tableTexts(table)
  const arrow = { lower: ' $\\downarrow$', higher: ' $\\uparrow$' }
  const head = columns.map(({ label, better }) => latexText(label) + (better ? arrow[better] : ''))
  const body = rows.map((row, at) =>
    row.map((cell, column) => {
      const own = cell.value === null ? '--' : latexText(texts[at]?.[column] ?? '')
      const text =
        typeof cell.value === 'number'
          ? own.replace(/(?<=\d)e(\$-\$|\+)(\d+)/g, (_, sign, power) => `$\\times10^{${sign === '+' ? '' : '-'}${power}}$`)
          : own
      return cell.best ? `\\textbf{${text}}` : text
    }),
  )
  const line = (cells: string[]) => `  ${cells.join(' & ')} \\\\`
  const floats = caption !== undefined
  return [
    '% \\usepackage{booktabs}',
    ...(floats ? ['\\begin{table}', '\\centering', `\\caption{${latexText(caption)}}`, `\\label{tab:${slugOf(name)}}`] : []),
    `\\begin{tabular}{${columns.map(({ numeric }) => (numeric ? 'r' : 'l')).join('')}}`,
    '  \\toprule',
    line(head),
    '  \\midrule',
    ...body.map(line),
    '  \\bottomrule',
    '\\end{tabular}',
    ...(notes.length > 0 ? ['', `{\\footnotesize ${latexText(notes.join(' '))}${floats ? '\\par' : ''}}`] : []),
    ...(floats ? ['\\end{table}'] : []),
    '',
  ].join('\n')
}

/** `perplexity-wikitext2-by-sparsity` */
const slugOf = (name: string): string =>
  name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')

const latexSigns: Record<string, string> = {
  '±': '$\\pm$',
  '×/÷': '$\\times/\\div$',
  '×': '$\\times$',
  '−': '$-$',
  '∞': '$\\infty$',
  '<': '$<$',
  '>': '$>$',
}

const latexText = (text: string): string => escapeLatex(text).replaceAll(/×\/÷|[±×−∞<>]/g, (sign) => latexSigns[sign] ?? sign)

const latexSpecials: Record<string, string> = { '\\': '\\textbackslash{}', '~': '\\textasciitilde{}', '^': '\\textasciicircum{}' }

function escapeLatex(text: string): string {
  return text.replace(/[\\~^&%$#_{}]/g, (sign) => latexSpecials[sign] ?? `\\${sign}`)
}
