import type { BlockPlan, Plan } from '#contract/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { densePlan } from '#engine/pruning/plan.ts'

/** How much of each kind a method will remove. */
export interface Removal {
  readonly attentionRemoved: number | null
  readonly blocksRemoved: number | null
  readonly neuronsRemovedPerBlock: number | null
}

/**
 * A plan of the kind and size that a method will come to, before it has decided anything: enough to say which formats will hold its
 * result and what they will weigh. Whole blocks go from the end; attentions from the end, MLPs from the start; neurons from every MLP.
 */
export function likelyPlan(spec: DecoderSpec, unit: string, removal: Removal): Plan {
  const plan = densePlan(spec)
  const { attentionRemoved, blocksRemoved, neuronsRemovedPerBlock } = removal
  const [attentions, blocks] = [attentionRemoved ?? 0, blocksRemoved ?? 0]
  const last = spec.blocks.length - 1
  const remove = (index: number, part: Partial<BlockPlan>) => {
    const block = plan.blocks[index]
    if (block) plan.blocks[index] = { ...block, ...part }
  }
  if (unit === 'width') return { ...plan, slice: { width: spec.hidden } }
  if (unit === 'block') for (let i = 0; i < blocks; i++) remove(last - i, { attention: 'removed', mlp: 'removed' })
  else for (let i = 0; i < attentions; i++) remove(last - i, { attention: 'removed' })
  if (unit === 'submodule') for (let i = 0; i < blocks; i++) remove(i, { mlp: 'removed' })
  for (const [index, layout] of spec.blocks.entries()) {
    const width = layout.width - (neuronsRemovedPerBlock ?? 0)
    if (neuronsRemovedPerBlock && layout.width > 0 && width > 0)
      remove(index, { mlp: { kept: Array.from({ length: width }, (_, i) => i) } })
  }
  return plan
}
