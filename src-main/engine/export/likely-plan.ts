import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { mixturesOf } from '#engine/pruning/experts/least-experts.ts'
import { planWithoutExperts } from '#engine/pruning/experts/plan.ts'
import { narrowBlock, narrowedBlocks } from '#engine/pruning/two-stage/split.ts'

/** How much of each kind a method will remove. */
export interface Removal {
  readonly attentionRemoved: number | null
  readonly blocksRemoved: number | null
  readonly neuronsRemovedPerBlock: number | null
  /** In total over all mixtures, equally many each. */
  readonly expertsRemoved?: number | undefined
}

/** Where a method may take its parts from: attention at the end and MLPs at the beginning, the other way round, or both from one block. */
type Place = 'apart' | 'turned' | 'together'

/**
 * Plans of the kind and size that a method may reach, before it has decided anything. They show which formats will hold its result, and its
 * smallest and largest size. If attention submodules and MLPs are removed one by one, formats differ by whether the rest of two blocks fits
 * into one, and by whether the first block keeps its attention.
 */
export function likelyPlans(spec: DecoderSpec, unit: string, removal: Removal): Plan[] {
  const places: readonly Place[] =
    unit === 'submodule'
      ? ['apart', 'turned', 'together']
      : (removal.attentionRemoved ?? 0) > 0 && unit !== 'block'
        ? ['apart', 'turned']
        : ['apart']
  return places.map((place) => likelyPlan(spec, unit, removal, place))
}

function likelyPlan(spec: DecoderSpec, unit: string, removal: Removal, place: Place): Plan {
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
  removeMany(attentions, place !== 'turned', { attention: 'removed' })
  if (unit === 'block' || unit === 'submodule') removeMany(blocksRemoved ?? 0, unit === 'block' || place !== 'apart', { mlp: 'removed' })
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
