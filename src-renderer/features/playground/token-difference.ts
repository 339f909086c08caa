/** Longer answers are compared by their common beginning only: the table below grows with the product of both lengths. */
const largestTable = 4_000_000

/** For each token of `answer`, whether the reference has it too in the same order (longest common subsequence). */
export function sharedTokens(reference: readonly string[], answer: readonly string[]): boolean[] {
  const shared = new Array<boolean>(answer.length).fill(false)
  let start = 0
  while (start < answer.length && start < reference.length && answer[start] === reference[start]) {
    shared[start] = true
    start += 1
  }
  const rows = reference.slice(start)
  const columns = answer.slice(start)
  if (rows.length * columns.length > largestTable) return shared
  for (const at of commonPositions(rows, columns)) shared[start + at] = true
  return shared
}

/** Share of the answer's tokens that the reference has too. */
export function sharedShare(shared: readonly boolean[]): number {
  return shared.length === 0 ? 1 : shared.filter(Boolean).length / shared.length
}

function commonPositions(rows: readonly string[], columns: readonly string[]): number[] {
  const width = columns.length + 1
  const lengths = new Uint32Array((rows.length + 1) * width)
  for (let row = rows.length - 1; row >= 0; row -= 1) {
    for (let column = columns.length - 1; column >= 0; column -= 1) {
      const here = row * width + column
      lengths[here] =
        rows[row] === columns[column] ? (lengths[here + width + 1] ?? 0) + 1 : Math.max(lengths[here + width] ?? 0, lengths[here + 1] ?? 0)
    }
  }
  const positions: number[] = []
  let row = 0
  let column = 0
  while (row < rows.length && column < columns.length) {
    if (rows[row] === columns[column]) {
      positions.push(column)
      row += 1
      column += 1
    } else if ((lengths[(row + 1) * width + column] ?? 0) >= (lengths[row * width + column + 1] ?? 0)) row += 1
    else column += 1
  }
  return positions
}
