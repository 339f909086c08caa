import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'

/**
 * A part that stays, with the removed ones whose outputs its projection takes over. All parts of a model, in running order, are the
 * leading, own and following ones of its segments.
 */
export interface Segment {
  /** Removed parts in front of it. */
  readonly leading: readonly Part[]
  readonly part: Part
  /** Removed parts behind it. */
  readonly following: readonly Part[]
}

/**
 * Which projection takes over what a plan removes: the last one in front of it, since what reads the stream in between then finds the
 * missing output there. With nothing in front (attention of block 0) it is the first one behind. In a block whose attention and MLP
 * read the same input side by side, a removed attention goes to its own MLP: in front, the MLP would see what it never saw.
 */
export function segmentsOf(spec: DecoderSpec, parts: readonly Part[], plan: Plan): Segment[] {
  const isKept = (part: Part) => {
    const block = plan.blocks[blockOf(part)]
    return isAttention(part) ? block?.attention === 'kept' : block?.mlp !== 'removed'
  }
  const beside = (part: Part) => spec.parallelResidual && isAttention(part) && parts.includes(part + 1) && isKept(part + 1)
  const segments: { leading: Part[]; part: Part; following: Part[] }[] = []
  let waiting: Part[] = []
  for (const part of parts) {
    const last = segments.at(-1)
    if (isKept(part)) {
      segments.push({ leading: waiting, part, following: [] })
      waiting = []
    } else if (last && !beside(part)) last.following.push(part)
    else waiting.push(part)
  }
  return segments
}
