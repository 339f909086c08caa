import { EspalierError } from '#contract/errors.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import type { Model } from '#engine/model/model.ts'

/** Bytes of each trained entry: its value, both moments, the best value, what is computed with, and its gradient while it is summed and read. */
const bytesPerEntry = 4 * 7

export interface Room {
  /** Windows that go through the model together. */
  readonly together: number
  /** Whether what a backward pass needs is kept. */
  readonly keeps: boolean
}

/** Rows that go through the model together at most: larger products are no faster, and a cancel is seen between parts. */
const mostRows = 1024

/**
 * How much goes through the model at once in what the budget leaves beside the dense model. Throws where not even one window fits.
 * @param entries trained entries
 */
export function roomFor({ workspaceBytes }: Model, spec: DecoderSpec, entries: number, tokens: number): Room {
  const tiles = 4 * 3 * Math.max(2 ** 22, spec.vocabulary)
  const fixed = entries * bytesPerEntry + tiles
  const streams = 4 * 4 * tokens * spec.hidden * spec.blocks.length
  const kept = 4 * tokens * spec.blocks.reduce((sum, _, block) => sum + keptPerRow(spec, block), 0)
  const largest = 2 * 4 * tokens * Math.max(...spec.blocks.map((_, block) => keptPerRow(spec, block)))
  const most = Math.max(1, Math.floor(mostRows / tokens))
  for (const keeps of [true, false]) {
    for (let together = most; together >= 1; together--) {
      if (fixed + together * ((keeps ? kept : streams) + largest) <= workspaceBytes) return { together, keeps }
    }
  }
  const mebibytes = (bytes: number) => Math.ceil(bytes / 2 ** 20)
  throw new EspalierError(
    'out-of-memory',
    `Recovery takes ${mebibytes(fixed + streams + largest)} MiB for ${(entries / 1e6).toFixed(1)} million trained weights and one window; ${mebibytes(workspaceBytes)} MiB are free for it. Give more memory, or remove more.`,
  )
}

/** Numbers that the backward pass of a block keeps for each row. */
function keptPerRow(spec: DecoderSpec, block: number): number {
  const { attention, width } = layoutOf(spec, block)
  const { heads, keyValueHeads, headSize, hidden } = spec
  const ofAttention = attention ? 2 * hidden + 2 * (heads + 2 * keyValueHeads) * headSize + 2 * heads * headSize : 0
  return ofAttention + (width > 0 ? 2 * hidden + 2 * width : 0) + 2 * hidden
}
