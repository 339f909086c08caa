import type { Table } from '#contract/comparison/table.ts'

/** What a report is made of; each kind is written once as HTML and once as Markdown. */
export type Block =
  | { kind: 'heading'; level: 1 | 2 | 3; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'table'; table: Table; caption?: string }
  /** `alternative` says the same in words. `svg` is made here, of numbers and escaped text; `onWhite` where its colours are for paper. */
  | { kind: 'picture'; svg: string; alternative: string; onWhite?: boolean }
  | { kind: 'code'; text: string }
  /** A text with one token marked. */
  | { kind: 'place'; before: string; marked: string; note: string }
  | { kind: 'answer'; title: string; note: string; pieces: readonly Piece[] }
  /** Things of one kind beside each other, as many as there is room for. */
  | { kind: 'beside'; groups: readonly (readonly Block[])[] }

/** A stretch of an answer, and whether it is other than in the answer that it is compared with. */
export interface Piece {
  text: string
  changed: boolean
}

export const heading = (level: 1 | 2 | 3, text: string): Block => ({ kind: 'heading', level, text })
export const paragraph = (text: string): Block => ({ kind: 'text', text })

/** The same table with a row for each of its columns from `first` on, and a column for each of its rows, which get names. */
export function turned({ columns, rows }: Table, first: number, names: readonly string[]): Table {
  return {
    columns: [{ label: 'Measure', numeric: false }, ...names.map((label) => ({ label, numeric: true }))],
    rows: columns.slice(first).map(({ label }, at) => [{ value: label }, ...rows.map((row) => row[first + at] ?? { value: null })]),
  }
}

/** A table of plain values; a column is numeric where its cells are. */
export function tableBlock(labels: readonly string[], rows: readonly (readonly (string | number | null)[])[], caption?: string): Block {
  return {
    kind: 'table',
    table: {
      columns: labels.map((label, at) => ({ label, numeric: rows.some((row) => typeof row[at] === 'number') })),
      rows: rows.map((row) => row.map((value) => ({ value }))),
    },
    ...(caption === undefined ? {} : { caption }),
  }
}
