import type { Table } from '#contract/table.ts'

/** What a report is made of; each kind is written once as HTML and once as Markdown. */
export type Block =
  | { kind: 'heading'; level: 1 | 2 | 3; text: string }
  | { kind: 'text'; text: string }
  | { kind: 'table'; table: Table; caption?: string }
  /** `alternative` says the same in words. `svg` is made here, of numbers and escaped text. */
  | { kind: 'picture'; svg: string; alternative: string }
  | { kind: 'code'; text: string }
  /** A text with one token marked. */
  | { kind: 'place'; before: string; marked: string; note: string }
  | { kind: 'answer'; title: string; note: string; pieces: readonly Piece[] }

/** A stretch of an answer, and whether it is other than in the answer that it is compared with. */
export interface Piece {
  text: string
  changed: boolean
}

export const heading = (level: 1 | 2 | 3, text: string): Block => ({ kind: 'heading', level, text })
export const paragraph = (text: string): Block => ({ kind: 'text', text })

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
