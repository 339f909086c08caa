import { outside } from '#contract/at.ts'
/** What to keep of a stored matrix. An undefined list keeps everything. */
export interface Cut {
  /** Whether all entries become zero. */
  readonly zero?: boolean
  /** Rows to keep; the others are dropped. */
  readonly rowsKept?: readonly number[] | undefined
  /** Pads with zero rows up to this number of rows. */
  readonly paddedRows?: number | undefined
  readonly columnsKept?: readonly number[] | undefined
  readonly paddedColumns?: number | undefined
  /** Rows or columns that keep their values; the others become zeros. */
  readonly rows?: readonly number[] | undefined
  readonly columns?: readonly number[] | undefined
}

/** Cuts a matrix of `rows` x `columns` entries of `entryBytes` bytes, copying whole entries. */
export function cutMatrix(source: Uint8Array, rows: number, columns: number, entryBytes: number, cut: Cut): Uint8Array {
  const rowsKept = cut.rowsKept ?? range(rows)
  const columnsKept = cut.columnsKept ?? range(columns)
  const width = cut.paddedColumns ?? columnsKept.length
  const result = new Uint8Array((cut.paddedRows ?? rowsKept.length) * width * entryBytes)
  if (cut.zero) return result
  const liveRows = cut.rows && new Set(cut.rows)
  const liveColumns = cut.columns && new Set(cut.columns)
  const whole = !liveColumns && cut.columnsKept === undefined
  rowsKept.forEach((row, i) => {
    if (liveRows && !liveRows.has(row)) return
    const from = row * columns * entryBytes
    const to = i * width * entryBytes
    if (whole) {
      result.set(source.subarray(from, from + columns * entryBytes), to)
      return
    }
    columnsKept.forEach((column, j) => {
      if (liveColumns && !liveColumns.has(column)) return
      for (let byte = 0; byte < entryBytes; byte++)
        result[to + j * entryBytes + byte] = source[from + column * entryBytes + byte] ?? outside(source, from + column * entryBytes + byte)
    })
  })
  return result
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i)
