import { at } from '#contract/at.ts'
import { cellText, shareText } from '#contract/comparison/cell-text.ts'
import type { Estimate } from '#contract/comparison/statistics.ts'
import type { Table } from '#contract/comparison/table.ts'
import { plainTable } from '../comparison/table-text.ts'

/** The building blocks of a report. Each kind has one HTML and one Markdown form. */
export type Block =
  | { kind: 'heading'; level: 1 | 2 | 3; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'table'; table: Table; caption?: string }
  /**
   * `alternative` describes the picture in words. `svg` is generated here from numbers and escaped text; `onWhite` if its colours need a
   * white background.
   */
  | { kind: 'picture'; svg: string; alternative: string; onWhite?: boolean }
  | { kind: 'code'; text: string }
  /** Text that ends in one marked token. */
  | { kind: 'place'; before: string; marked: string; note: string }
  | { kind: 'answer'; title: string; note: string; pieces: readonly Piece[] }
  /** Similar groups side by side, wrapping where the page ends. */
  | { kind: 'beside'; groups: readonly (readonly Block[])[] }

/** A piece of an answer, and whether it differs from the reference answer. */
export interface Piece {
  text: string
  changed: boolean
}

export const heading = (level: 1 | 2 | 3, text: string): Block => ({ kind: 'heading', level, text })
export const paragraph = (text: string): Block => ({ kind: 'text', text })

/** Transposes a table: one row for each column from `first` on, one column for each row, with the given names. */
export function transposed({ columns, rows }: Table, first: number, names: readonly string[]): Table {
  return {
    columns: [{ label: 'Measure', numeric: false }, ...names.map((label) => ({ label, numeric: true }))],
    rows: columns.slice(first).map(({ label }, at) => [{ value: label }, ...rows.map((row) => row[first + at] ?? { value: null })]),
    alike: 'rows',
  }
}

/** Selects columns of a table, and puts a column of names in front of them. */
export function named({ columns, rows }: Table, names: readonly string[], chosen: readonly number[]): Table {
  return {
    columns: [{ label: 'Run', numeric: false }, ...chosen.map((column) => at(columns, column))],
    rows: rows.map((row, line) => [{ value: names[line] ?? null }, ...chosen.map((column) => at(row, column))]),
    alike: 'columns',
  }
}

export function tableBlock(labels: readonly string[], rows: readonly (readonly (string | number | null)[])[], caption?: string): Block {
  return { kind: 'table', table: plainTable(labels, rows), ...(caption === undefined ? {} : { caption }) }
}

/** Writes a share in percent; null stays null. */
export const percent = (share: number | null): string | null => (share === null ? null : shareText(share))

/** Writes a value with its standard error, if it has one. */
export const estimated = ({ value, error }: Estimate): string => cellText({ value, spread: error })
