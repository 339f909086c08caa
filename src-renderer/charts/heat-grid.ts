/** A row of a heat map, with what its cells mean in words. */
export interface HeatRow {
  readonly label: string
  readonly title: string
  readonly cells: readonly HeatCell[]
}

/** Positive and negative values have different colours. A marked cell has a frame. */
export interface HeatCell {
  readonly value: number
  readonly text: string
  readonly marked?: boolean
}

/** How strong the colour of each cell is, 0 to 1, by its share of the largest value; its root, so that small values can be seen too. */
export function heatOf(rows: readonly HeatRow[]): (value: number) => number {
  const most = Math.max(...rows.flatMap(({ cells }) => cells.map(({ value }) => Math.abs(value))), 0)
  return (value) => (most === 0 ? 0 : Math.sqrt(Math.abs(value) / most))
}
