import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'

/**
 * A part that stays, with the removed parts whose outputs its projection takes over. All parts of a model, in running order, are the
 * leading, own and following parts of its segments.
 */
export interface Segment {
  /** Removed parts before it. */
  readonly leading: readonly Part[]
  readonly part: Part
  /** Removed parts after it. */
  readonly following: readonly Part[]
}

/**
 * Which projection takes over what a plan removes: the last one before it, because what reads the stream in between then finds the missing
 * output. If none comes before (attention of block 0), the first one after. If attention and MLP of a block read the same input in
 * parallel, a removed attention goes to its own MLP: an MLP before it would not see what it needs.
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
