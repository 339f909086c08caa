import type { Outline } from '#contract/runs/preflight.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Budget } from './budget.ts'
import type { Method } from './method.ts'

/** What a budget comes to with a method and its options, before anything is computed. Throws when it cannot be reached. */
export function outlineOf(method: Method, spec: DecoderSpec, budget: Budget, options: Record<string, unknown>): Outline {
  return method.outline?.(spec, budget, options) ?? wholeBlocks(spec, budget)
}

/** What depth methods remove: whole blocks, or as many attentions and MLPs as those have. */
function wholeBlocks(spec: DecoderSpec, { blocks }: Budget): Outline {
  return { attentionRemoved: blocks, blocksRemoved: blocks, neuronsRemovedPerBlock: 0, reached: blocks / spec.blocks.length }
}
