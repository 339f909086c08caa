import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { needsGather } from '#engine/model/views/gather-mlp.ts'
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

/** The segments whose projection has other inputs or another target than in the dense model. In order, these are all after the first change. */
export function segmentsToRepair(spec: DecoderSpec, plan: Plan, segments: readonly Segment[], inOrder: boolean): Set<Segment> {
  let parted = false
  const needsRepair = (segment: Segment) => {
    const changed = takesOver(spec, segment) || isCut(plan, segment.part) || (inOrder && segment.leading.length > 0)
    parted ||= inOrder && changed
    return parted || changed
  }
  return new Set(segments.filter(needsRepair))
}

/** Whether the projection has to replace the output of removed parts. Through a norm on its output it cannot. */
export function takesOver(spec: DecoderSpec, { leading, part, following }: Segment): boolean {
  return leading.length + following.length > 0 && !isNormed(spec, part)
}

/** Whether a norm follows the projection before its output reaches the stream. */
export function isNormed(spec: DecoderSpec, part: Part): boolean {
  const { attentionOutputNorm, mlpOutputNorm } = spec.block(blockOf(part))
  return (isAttention(part) ? attentionOutputNorm : mlpOutputNorm) !== undefined
}

function isCut(plan: Plan, part: Part): boolean {
  const mlp = plan.blocks[blockOf(part)]?.mlp
  return !isAttention(part) && mlp !== undefined && mlp !== 'removed' && needsGather(mlp)
}
