import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { PlainAmount } from '#contract/runs/run-request.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'

/** What a plan may cost if the run has a budget, and what it does cost. */
export interface CostLimit {
  /** The budget in words, or any other cost. */
  readonly asked: string
  text(cost: number, round?: (value: number) => number): string
  readonly most: number
  /** How much of the budget is left above the limit. */
  readonly spare: number
  of(plan: Plan): Promise<number>
}

/** How much a run may remove from one model, computed once for all methods. */
export interface Budget {
  /** The share of the block stack's parameters to remove, 0 to 1. */
  readonly sparsity: number
  /** The same in whole blocks, rounded up: what depth methods remove. */
  readonly blocks: number
  /** The limit that the sparsity was found for. A method that can choose by cost meets it itself. */
  readonly cost?: CostLimit
}

/** Rounds halves to the even neighbour, as Python's `round` does. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}

/** The budget of an amount on a model. An amount in blocks means that share of the stack. */
export function budgetFor(spec: DecoderSpec, amount: PlainAmount): Budget {
  const count = spec.blocks.length
  if (spec.sliceWidth !== undefined && ('blocks' in amount ? amount.blocks : amount.sparsity) > 0) {
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
  return { sparsity: amount.sparsity, blocks: Math.ceil(amount.sparsity * count - 1e-9) }
}

/** The range of a method that removes whole blocks: it must leave one. */
export function depthRange(spec: DecoderSpec): { least: number; most: number } {
  return { least: 0, most: (spec.blocks.length - 1) / spec.blocks.length }
}

/** Throws if fewer than `wanted` blocks are left. */
export function requireBlocks(wanted: number, left: number): void {
  if (wanted > left)
    throw new EspalierError('infeasible', `${wanted} blocks cannot be removed: the model has ${left} left. Choose at most ${left}.`)
}
