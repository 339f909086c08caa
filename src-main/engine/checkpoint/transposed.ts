import { outside } from '#contract/at.ts'

/** Describes a matrix [rows, columns] whose row r is column `step * r + first` of a stored matrix [columns, step * rows]. */
export interface Transposition {
  readonly rows: number
  readonly columns: number
  readonly step: number
  readonly first: number
}

type Words = Uint8Array | Uint16Array | Uint32Array | Float64Array

const kinds = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: Float64Array } as const

function wordsOf(bytes: Uint8Array, size: number): Words {
  const kind = kinds[size as keyof typeof kinds]
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes)
  return new kind(aligned.buffer as ArrayBuffer, aligned.byteOffset, aligned.byteLength / size)
}

/** Extracts the matrix from the bytes of the stored matrix, whose entries have `size` bytes. */
export function takeColumns(stored: Uint8Array, size: number, { rows, columns, step, first }: Transposition): Uint8Array {
  const from = wordsOf(stored, size)
  const result = new Uint8Array(rows * columns * size)
  const to = wordsOf(result, size)
  for (let column = 0; column < columns; column++)
    for (let row = 0; row < rows; row++) {
      const at = column * step * rows + step * row + first
      to[row * columns + column] = from[at] ?? outside(from, at)
    }
  return result
}

/** Writes the matrix into the stored matrix, which starts at byte `begin` of `target`. */
export function putColumns(
  matrix: Uint8Array,
  size: number,
  target: Uint8Array,
  begin: number,
  { rows, columns, step, first }: Transposition,
): void {
  const from = wordsOf(matrix, size)
  const to = wordsOf(target.subarray(begin, begin + step * rows * columns * size), size)
  for (let column = 0; column < columns; column++)
    for (let row = 0; row < rows; row++) {
      const at = row * columns + column
      to[column * step * rows + step * row + first] = from[at] ?? outside(from, at)
    }
}
