import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import { presentParameters, stackParameters } from '#engine/architectures/parameters.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { specWithPlan } from '#engine/model/views/sliced-spec.ts'
import { attentionOf, blockOf, isAttention, mlpOf, type Part, presentParts } from '#engine/model/weights/weights.ts'
import type { Variant } from './search/trunk.ts'

const kept: BlockPlan = { attention: 'kept', mlp: { kept: 'all' } }

/** The plan that removes nothing from what is present. */
export function densePlan(spec: DecoderSpec): Plan {
  return {
    blocks: spec.blocks.map((layout) => ({
      attention: layout.attention ? 'kept' : 'removed',
      mlp: layout.width > 0 ? { kept: 'all' } : 'removed',
    })),
  }
}

/** The plan without the given parts. */
export function removeParts(plan: Plan, parts: Iterable<Part>): Plan {
  const blocks = plan.blocks.map((block) => ({ ...block }))
  for (const part of parts) {
    const block = blocks[blockOf(part)] ?? kept
    if (isAttention(part)) block.attention = 'removed'
    else block.mlp = 'removed'
  }
  return { ...plan, blocks }
}

/** Blocks that have at least one part left. */
export function presentBlocks(spec: DecoderSpec): number[] {
  return [...spec.blocks.keys()].filter((index) => layoutOf(spec, index).attention || layoutOf(spec, index).width > 0)
}

/** Both parts of each of the given blocks. */
export function blockParts(blocks: Iterable<number>): Part[] {
  return [...blocks].flatMap((block) => [attentionOf(block), mlpOf(block)])
}

/** The variant without the parts that the plan removes whole. */
export function variantOf(plan: Plan): Variant {
  return Uint8Array.from(plan.blocks.flatMap((block) => [block.attention === 'removed' ? 1 : 0, block.mlp === 'removed' ? 1 : 0]))
}

/** The variant without `parts` and without what `base` lacks. */
export function without(base: Variant, parts: Iterable<Part>): Variant {
  const variant = base.slice()
  for (const part of parts) variant[part] = 1
  return variant
}

export function partsOf(variant: Variant): Part[] {
  return [...variant.keys()].filter((part) => variant[part] === 1)
}

/** Parameters that the plan removes from the block stack. */
export function removedParameters(spec: DecoderSpec, plan: Plan): number {
  return stackParameters(spec) - stackParameters(specWithPlan(spec, plan))
}

/** Each attention that is present, by itself. */
export function attentionRemovals(spec: DecoderSpec): Part[][] {
  return presentParts(spec)
    .filter(isAttention)
    .map((part) => [part])
}

/** Parameters that each of these removals takes; undefined if they differ. */
export function equalCost(spec: DecoderSpec, removals: readonly (readonly Part[])[]): number | undefined {
  const dense = densePlan(spec)
  const costs = new Set(removals.map((parts) => costOf(spec, removeParts(dense, parts), new Set(parts.map(blockOf)))))
  return costs.size === 1 ? [...costs][0] : undefined
}

function costOf(spec: DecoderSpec, plan: Plan, changed: ReadonlySet<number>): number {
  const left = specWithPlan(spec, plan)
  return [...changed].reduce((total, block) => total + presentParameters(spec, block).all - presentParameters(left, block).all, 0)
}

/** The share of the block stack's parameters that the plan removes, 0 to 1. */
export function reachedSparsity(spec: DecoderSpec, plan: Plan): number {
  return removedParameters(spec, plan) / stackParameters(spec)
}
