import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { needsGather } from '#engine/model/views/gather-mlp.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'

/**
 * A part that stays, with the removed parts around it whose outputs its projection takes over. Together, the segments contain all parts of
 * a model in running order.
 */
export interface Segment {
  /** Removed parts before it. */
  readonly leading: readonly Part[]
  readonly part: Part
  /** Removed parts after it. */
  readonly following: readonly Part[]
}

/**
 * Divides the parts of a model into segments, which decides which projection takes over a removed part. It is the last kept one before the
 * part, so that everything reading the stream in between finds the missing output. If there is none (attention of block 0), it is the first
 * one after the part. If attention and MLP of a block read the same input in parallel, removed attention goes to its own MLP, because an
 * MLP before it would not see the input that it needs.
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

/**
 * Returns the segments whose projection has other inputs or another target than in the dense model. For `in-order` repair, these are the
 * first changed segment and all segments after it.
 */
export function segmentsToRepair(spec: DecoderSpec, plan: Plan, segments: readonly Segment[], inOrder: boolean): Set<Segment> {
  let diverged = false
  const needsRepair = (segment: Segment) => {
    const changed = takesOver(spec, segment) || isCut(spec, plan, segment.part) || (inOrder && segment.leading.length > 0)
    diverged ||= inOrder && changed
    return diverged || changed
  }
  return new Set(segments.filter(needsRepair))
}

/** Whether the projection takes over the output of removed parts. It cannot if a norm follows it. */
export function takesOver(spec: DecoderSpec, { leading, part, following }: Segment): boolean {
  return leading.length + following.length > 0 && !isNormed(spec, part)
}

/** Whether a norm follows the projection before its output reaches the stream. */
export function isNormed(spec: DecoderSpec, part: Part): boolean {
  const { attentionOutputNorm, mlpOutputNorm } = spec.block(blockOf(part))
  return (isAttention(part) ? attentionOutputNorm : mlpOutputNorm) !== undefined
}

/** Whether an MLP lost anything. A list of all of its neurons removes none, so there is nothing to fit but rounding. */
function isCut(spec: DecoderSpec, plan: Plan, part: Part): boolean {
  const mlp = plan.blocks[blockOf(part)]?.mlp
  if (isAttention(part) || mlp === undefined || mlp === 'removed') return false
  const isWhole = mlp.kept !== 'all' && mlp.kept.length === spec.blocks[blockOf(part)]?.width
  return needsGather(isWhole ? { ...mlp, kept: 'all' } : mlp)
}
