import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import { blockParameters, type DecoderSpec, layoutOf, normParameters, stackParameters } from '#engine/architectures/spec.ts'
import { slicedStackParameters } from '#engine/model/views/slice.ts'
import { attentionOf, blockOf, isAttention, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import type { Variant } from './search/trunk.ts'

const kept: BlockPlan = { attention: 'kept', mlp: { kept: 'all' } }

/** The plan that removes nothing that is still there. */
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

/** Blocks of which anything is left. */
export function presentBlocks(spec: DecoderSpec): number[] {
  return [...spec.blocks.keys()].filter((index) => layoutOf(spec, index).attention || layoutOf(spec, index).width > 0)
}

/** Both parts of each of the given blocks. */
export function blockParts(blocks: Iterable<number>): Part[] {
  return [...blocks].flatMap((block) => [attentionOf(block), mlpOf(block)])
}

/** The variant that removes what the plan removes whole. */
export function variantOf(plan: Plan): Variant {
  return Uint8Array.from(plan.blocks.flatMap((block) => [block.attention === 'removed' ? 1 : 0, block.mlp === 'removed' ? 1 : 0]))
}

/** A variant that lacks `parts` besides what `base` lacks. */
export function without(base: Variant, parts: Iterable<Part>): Variant {
  const variant = base.slice()
  for (const part of parts) variant[part] = 1
  return variant
}

export function partsOf(variant: Variant): Part[] {
  return [...variant.keys()].filter((part) => variant[part] === 1)
}

/** Parameters that the plan removes from the block stack; norms in front of submodules count as kept, but for a sliced model, which has none in its blocks. */
export function removedParameters(spec: DecoderSpec, plan: Plan): number {
  if (plan.slice) return stackParameters(spec) - slicedStackParameters(spec, plan.slice.width)
  return plan.blocks.reduce((total, block, index) => {
    const layout = spec.blocks[index]
    if (!layout) return total
    const { attention, mlp } = blockParameters(spec, index)
    const attentionRemoved = layout.attention && block.attention === 'removed' ? attention : 0
    return total + attentionRemoved + removedFromMlp(spec, index, mlp, block)
  }, 0)
}

function removedFromMlp(spec: DecoderSpec, index: number, mlp: number, block: BlockPlan): number {
  const { width } = layoutOf(spec, index)
  if (width === 0) return 0
  if (block.mlp === 'removed') return mlp
  const { up, down, gate, mlpOutputNorm } = spec.block(index)
  const keptWidth = block.mlp.kept === 'all' ? width : block.mlp.kept.length
  const inputs = block.mlp.inputs?.length ?? spec.hidden
  const outputs = block.mlp.outputs?.length ?? spec.hidden
  const inner = (gate ? 2 : 1) * keptWidth * inputs + keptWidth * outputs
  const biases = (gate?.bias ? keptWidth : 0) + (up.bias ? keptWidth : 0) + (down.bias ? spec.hidden : 0)
  return mlp - inner - biases - normParameters(spec, mlpOutputNorm)
}

/** The share of the block stack's parameters that the plan removes, 0 to 1. */
export function reachedSparsity(spec: DecoderSpec, plan: Plan): number {
  return removedParameters(spec, plan) / stackParameters(spec)
}
