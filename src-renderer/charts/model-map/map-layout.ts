import type { ModelDescription } from '#contract/models/models.ts'

const gutter = 30
const labelSpace = 80
const trunkGap = 9
const smallestCell = 12

/** The positions of the parts of a map, in pixels. Lengths are proportional to parameters, on one scale for both sides of the trunk. */
interface MapLayout {
  width: number
  height: number
  rowHeight: number
  barHeight: number
  trunk: number
  attention: number
  mlp: number
  labels: number
  top: number
}

export function layoutMap(blocks: ModelDescription['blocks'], width: number): MapLayout {
  const attentionParameters = Math.max(...blocks.map((block) => block.attentionParameters), 1)
  const mlpParameters = Math.max(...blocks.map((block) => block.mlpParameters), 1)
  const space = Math.max(60, width - gutter - labelSpace - 2 * trunkGap)
  const attention = Math.max(smallestCell, (space * attentionParameters) / (attentionParameters + mlpParameters))
  const rowHeight = blocks.length <= 16 ? 26 : blocks.length <= 32 ? 20 : blocks.length <= 48 ? 16 : 13
  const top = 18
  return {
    width,
    height: top + blocks.length * rowHeight + 20,
    rowHeight,
    barHeight: Math.round(rowHeight * 0.5),
    trunk: gutter + attention + trunkGap,
    attention,
    mlp: Math.max(smallestCell, space - attention),
    labels: width - labelSpace + 10,
    top,
  }
}

/** The tree grows upwards: the first block is the lowest row. */
export function rowTop(layout: MapLayout, blocks: number, index: number): number {
  return layout.top + (blocks - 1 - index) * layout.rowHeight
}
