import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import { presentParameters, stackParameters } from '#engine/architectures/count-parameters.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import { attentionOf, blockOf, isAttention, mlpOf, type Part, presentParts } from '#engine/model/weights/weights.ts'
import type { Variant } from './search/trunk.ts'

const kept: BlockPlan = { attention: 'kept', mlp: { kept: 'all' } }

/** Returns the plan that removes nothing from what the model has. */
export function densePlan(spec: DecoderSpec): Plan {
  return {
    blocks: spec.blocks.map((layout) => ({
      attention: layout.attention ? 'kept' : 'removed',
      mlp: layout.width > 0 ? { kept: 'all' } : 'removed',
    })),
  }
}

/** Returns the plan without the given parts. */
export function removeParts(plan: Plan, parts: Iterable<Part>): Plan {
  const blocks = plan.blocks.map((block) => ({ ...block }))
  for (const part of parts) {
    const block = blocks[blockOf(part)] ?? kept
    if (isAttention(part)) block.attention = 'removed'
    else block.mlp = 'removed'
  }
  return { ...plan, blocks }
}

/** Returns the blocks that have at least one part left. */
export function presentBlocks(spec: DecoderSpec): number[] {
  return [...spec.blocks.keys()].filter((index) => layoutOf(spec, index).attention || layoutOf(spec, index).width > 0)
}

/** Returns both parts of each of the given blocks. */
export function blockParts(blocks: Iterable<number>): Part[] {
  return [...blocks].flatMap((block) => [attentionOf(block), mlpOf(block)])
}

/** Returns the variant that lacks the parts that the plan removes entirely. */
export function variantOf(plan: Plan): Variant {
  return Uint8Array.from(plan.blocks.flatMap((block) => [block.attention === 'removed' ? 1 : 0, block.mlp === 'removed' ? 1 : 0]))
}

/** Returns the variant that lacks `parts` and everything that `base` lacks. */
export function without(base: Variant, parts: Iterable<Part>): Variant {
  const variant = base.slice()
  for (const part of parts) variant[part] = 1
  return variant
}

/** Returns the parts that a variant lacks. */
export function partsOf(variant: Variant): Part[] {
  return [...variant.keys()].filter((part) => variant[part] === 1)
}

/** Returns how many parameters the plan removes: of the block stack, and of embedding and head if it removes rows there. */
export function removedParameters(spec: DecoderSpec, plan: Plan): number {
  return countedParameters(spec, plan) - countedParameters(specWithPlan(spec, plan), plan)
}

/** The parameters that a plan can remove some of. SliceGPT also narrows the embedding, but the paper counts the blocks alone. */
const countedParameters = (spec: DecoderSpec, { vocabulary }: Plan): number =>
  stackParameters(spec) + (vocabulary ? Vocabulary.parameters(spec) : 0)

/** Returns one removal for each attention submodule of the model. */
export function attentionRemovals(spec: DecoderSpec): Part[][] {
  return presentParts(spec)
    .filter(isAttention)
    .map((part) => [part])
}

/** Returns how many parameters each of these removals takes, or undefined if they differ. */
export function equalCost(spec: DecoderSpec, removals: readonly (readonly Part[])[]): number | undefined {
  const dense = densePlan(spec)
  const costs = new Set(removals.map((parts) => costOf(spec, removeParts(dense, parts), new Set(parts.map(blockOf)))))
  return costs.size === 1 ? [...costs][0] : undefined
}

function costOf(spec: DecoderSpec, plan: Plan, changed: ReadonlySet<number>): number {
  const left = specWithPlan(spec, plan)
  return [...changed].reduce((total, block) => total + presentParameters(spec, block).all - presentParameters(left, block).all, 0)
}

/** Returns the share that the plan removes, 0 to 1: of the block stack's parameters, or of all if rows of the vocabulary are among them. */
export function reachedSparsity(spec: DecoderSpec, plan: Plan): number {
  return removedParameters(spec, plan) / countedParameters(spec, plan)
}

/** What a plan removed, in words: `12.50 % of the block stack's parameters`. */
export function removedText(spec: DecoderSpec, plan: Plan): string {
  const share = `${(100 * reachedSparsity(spec, plan)).toFixed(2)} %`
  if (!plan.vocabulary) return `${share} of the block stack's parameters`
  const { vocabulary, ...blocks } = plan
  const rows = `${vocabulary.kept.length.toLocaleString('en')} of ${spec.vocabulary.toLocaleString('en')} tokens are left`
  return `${share} of all parameters, ${(100 * reachedSparsity(spec, blocks)).toFixed(2)} % of the block stack's (${rows})`
}

/** A note that widths in multiples of `unit` remove another share than was asked for. */
export const roundedNote = (unit: number, reached: number, asked: number): string =>
  `Widths are multiples of ${unit}, so the plan removes ${(100 * reached).toFixed(2)} % instead of ${(100 * asked).toFixed(2)} %.`
