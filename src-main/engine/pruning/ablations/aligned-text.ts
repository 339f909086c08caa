import { formatNumber, type Table, type TableCell } from '#contract/table-text.ts'

/** A table for a terminal: columns as wide as their widest entry, numbers to the right, the best of a group with a star. */
export function alignedText({ columns, rows }: Table): string {
  const body = rows.map((row) => columns.map((_, column) => cellText(row[column])))
  const lines = [columns.map(({ label }) => label), ...body]
  const widths = columns.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)))
  const format = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (columns[column]?.numeric ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd()
  const rule = widths.map((width) => '-'.repeat(width)).join('  ')
  return `${[format(lines[0] ?? []), rule, ...body.map(format)].join('\n')}\n`
}

function cellText(cell: TableCell | undefined): string {
  const value = cell?.value ?? null
  const text = value === null ? '–' : typeof value === 'number' ? formatNumber(value) : String(value)
  return cell?.best ? `*${text}` : text
}
