import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { PlainAmount } from '#contract/runs/run-request.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { sparsityOfExperts } from './experts/expert-plan.ts'

/** A limit on the cost of plans, such as a file size or a time, and how to compute the cost of one. */
export interface CostLimit {
  /** The budget in words. */
  readonly asked: string
  /** Puts any cost into words. */
  text(cost: number, round?: (value: number) => number): string
  /** The limit. */
  readonly most: number
  /** How much of the budget the limit leaves unused. */
  readonly spare: number
  /** Returns the cost of a plan. */
  of(plan: Plan): Promise<number>
}

/** How much a run may remove from one model, computed once for all methods. */
export interface Budget {
  /** The share of the block stack's parameters to remove, 0 to 1. */
  readonly sparsity: number
  /** The same amount in whole blocks, rounded up. Depth methods remove this many. */
  readonly blocks: number
  /** The share of the experts of each mixture to remove, if the amount is one. The sparsity is what that removes. */
  readonly experts?: number
  /** The limit that the sparsity was chosen for. A method that can choose by cost meets the limit itself. */
  readonly cost?: CostLimit
}

/**
 * Returns the budget for an amount on one model. An amount in blocks becomes the share that they have of all blocks. Throws `infeasible` if
 * the model cannot lose that much.
 */
export function budgetFor(spec: DecoderSpec, amount: PlainAmount): Budget {
  const count = spec.blocks.length
  if (spec.sliceWidth !== undefined && Object.values(amount).some((value) => value > 0)) {
    throw new EspalierError(
      'infeasible',
      `This model was sliced to ${spec.sliceWidth} of ${spec.hidden} channels and cannot be pruned further. Start from the dense model.`,
    )
  }
  if ('blocks' in amount) {
    if (amount.blocks > count)
      throw new EspalierError('infeasible', `${amount.blocks} blocks cannot be removed: the model has ${count}. Choose at most ${count}.`)
    return { sparsity: amount.blocks / count, blocks: amount.blocks }
  }
  if ('experts' in amount) {
    const sparsity = sparsityOfExperts(spec, amount.experts)
    return { sparsity, blocks: blocksFor(sparsity, count), experts: amount.experts }
  }
  return { sparsity: amount.sparsity, blocks: blocksFor(amount.sparsity, count) }
}

const blocksFor = (sparsity: number, count: number): number => Math.ceil(sparsity * count - 1e-9)

/** Returns the range of a method that removes whole blocks. One block must remain. */
export function depthRange(spec: DecoderSpec): { least: number; most: number } {
  return { least: 0, most: (spec.blocks.length - 1) / spec.blocks.length }
}

/** Throws if fewer than `wanted` blocks are available. */
export function requireBlocks(wanted: number, left: number): void {
  if (wanted > left)
    throw new EspalierError('infeasible', `${wanted} blocks cannot be removed: the model has ${left} left. Choose at most ${left}.`)
}
