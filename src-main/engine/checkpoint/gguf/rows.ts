import { alignedBuffer } from '../aligned-buffer.ts'
import type { Rows } from '../checkpoint.ts'

/** A tensor consists of `ranges` of stored rows, one after another. Returns the stored ranges of its `wanted` rows. */
export function intersect<Range extends Rows>(ranges: readonly Range[], wanted: Rows): Range[] {
  let passed = 0
  return ranges.flatMap((range) => {
    const { first, count } = range
    const from = Math.max(wanted.first - passed, 0)
    const until = Math.min(wanted.first + wanted.count - passed, count)
    passed += count
    return until > from ? [{ ...range, first: first + from, count: until - from }] : []
  })
}

/** Concatenates pieces of memory. */
export function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0] as Uint8Array
  const joined = alignedBuffer(parts.reduce((sum, { byteLength }) => sum + byteLength, 0))
  let begin = 0
  for (const part of parts) {
    joined.set(part, begin)
    begin += part.byteLength
  }
  return joined
}

/** Copies the first `kept` of the `columns` values of each row. Returns `bytes` itself if all are kept. */
export function firstColumns(bytes: Uint8Array, columns: number, kept: number, valueBytes: number): Uint8Array {
  if (kept === columns) return bytes
  const rows = bytes.byteLength / (columns * valueBytes)
  const result = alignedBuffer(rows * kept * valueBytes)
  for (let row = 0; row < rows; row++) {
    const begin = row * columns * valueBytes
    result.set(bytes.subarray(begin, begin + kept * valueBytes), row * kept * valueBytes)
  }
  return result
}

/** Restores the order of the columns: in each row, the model's values are these ranges of the file's, one after another. */
export function takeFrom(bytes: Uint8Array, ranges: readonly Rows[], entryBytes: number): Uint8Array {
  const result = alignedBuffer(bytes.byteLength)
  for (let to = 0; to < bytes.byteLength; ) {
    const row = to
    for (const { first, count } of ranges) {
      const from = row + first * entryBytes
      result.set(bytes.subarray(from, from + count * entryBytes), to)
      to += count * entryBytes
    }
  }
  return result
}

/** Restores the order of rows within each head: stored rows 0, 2, 4, … are its first half, rows 1, 3, 5, … its second half. */
export function takeApart(heads: Uint8Array, rowBytes: number, headRows: number, first: number, count: number): Uint8Array {
  const result = alignedBuffer(count * rowBytes)
  for (let i = 0; i < count; i++) {
    const row = first + i
    const within = row % headRows
    const half = headRows / 2
    const source = row - within + (within < half ? 2 * within : 2 * (within - half) + 1)
    result.set(heads.subarray(source * rowBytes, (source + 1) * rowBytes), i * rowBytes)
  }
  return result
}
