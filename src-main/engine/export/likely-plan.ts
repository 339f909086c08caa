import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { mixturesOf } from '#engine/pruning/experts/lowest-ranked-experts.ts'
import { planWithoutExperts } from '#engine/pruning/experts/plan.ts'
import { narrowBlock, narrowedBlocks } from '#engine/pruning/two-stage/split.ts'

/** How much of each kind a method will remove. */
export interface Removal {
  readonly attentionRemoved: number | null
  readonly blocksRemoved: number | null
  readonly neuronsRemovedPerBlock: number | null
  /** The total over all mixtures. The same number is removed from each. */
  readonly expertsRemoved?: number | undefined
}

/**
 * Which blocks a method may remove parts from: attention from the last and MLPs from the first blocks, the other way round, or both from
 * the last blocks.
 */
type Placement = 'attentionLast' | 'attentionFirst' | 'sameBlocks'

/**
 * Plans of the kind and size that a method may decide on, before it has run. They show which formats will hold its result, and its smallest
 * and largest size. If a method removes attention submodules and MLPs one by one, sizes depend on whether the remaining parts of two blocks
 * fit in one, and some formats need attention in the first block.
 */
export function likelyPlans(spec: DecoderSpec, unit: string, removal: Removal): Plan[] {
  const placements: readonly Placement[] =
    unit === 'submodule'
      ? ['attentionLast', 'attentionFirst', 'sameBlocks']
      : (removal.attentionRemoved ?? 0) > 0 && unit !== 'block'
        ? ['attentionLast', 'attentionFirst']
        : ['attentionLast']
  return placements.map((placement) => likelyPlan(spec, unit, removal, placement))
}

function likelyPlan(spec: DecoderSpec, unit: string, removal: Removal, placement: Placement): Plan {
  const plan = withoutFirstExperts(spec, removal.expertsRemoved ?? 0)
  if (unit === 'width') return { ...plan, slice: { width: spec.hidden } }
  const { attentionRemoved, blocksRemoved, neuronsRemovedPerBlock } = removal
  const last = spec.blocks.length - 1
  const removeMany = (count: number, atEnd: boolean, part: Partial<BlockPlan>) => {
    for (let i = 0; i < count; i++) replace(atEnd ? last - i : i, part)
  }
  const replace = (index: number, part: Partial<BlockPlan>) => {
    const block = plan.blocks[index]
    if (block) plan.blocks[index] = { ...block, ...part }
  }
  const attentions = unit === 'block' ? (blocksRemoved ?? 0) : (attentionRemoved ?? 0)
  removeMany(attentions, placement !== 'attentionFirst', { attention: 'removed' })
  if (unit === 'block' || unit === 'submodule')
    removeMany(blocksRemoved ?? 0, unit === 'block' || placement !== 'attentionLast', { mlp: 'removed' })
  for (const index of narrowedBlocks(spec)) {
    const { width } = layoutOf(spec, index)
    const kept = width - (neuronsRemovedPerBlock ?? 0)
    const block = plan.blocks[index]
    if (neuronsRemovedPerBlock && width > 0 && kept > 0 && block) plan.blocks[index] = narrowBlock(spec, index, block, kept)
  }
  return plan
}

function withoutFirstExperts(spec: DecoderSpec, count: number): Plan {
  const mixtures = mixturesOf(spec)
  const each = count / Math.max(1, mixtures.length)
  return planWithoutExperts(spec, new Map(mixtures.map(({ block, experts }) => [block, experts.slice(0, each)])), 'dropped')
}
