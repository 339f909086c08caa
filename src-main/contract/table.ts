export interface TableColumn {
  label: string
  numeric: boolean
  better?: 'lower' | 'higher'
}

export interface TableCell {
  value: string | number | boolean | null
  /** Standard deviation over seeds. */
  spread?: number | null
  best?: boolean
}

export type TableRow = TableCell[]
export interface Table {
  columns: TableColumn[]
  rows: TableRow[]
}
