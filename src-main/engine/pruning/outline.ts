import type { Outline } from '#contract/runs/request-preview.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { isAttention, presentParts } from '#engine/model/weights/weights.ts'
import type { Budget } from './budget.ts'
import type { Method } from './method.ts'
import { attentionRemovals, blockParts, equalCost, presentBlocks } from './plan.ts'

/** Returns what a budget amounts to with a method and its options, before anything is computed. Throws if the budget cannot be reached. */
export function outlineOf(method: Method, spec: DecoderSpec, budget: Budget, options: Record<string, unknown>): Outline {
  return method.outline?.(spec, budget, options) ?? wholeBlocks(method.unit, spec, budget)
}

/** Returns the outline of a depth method: it removes whole blocks, or an equal number of attention submodules and MLPs. */
function wholeBlocks(unit: Method['unit'], spec: DecoderSpec, { blocks }: Budget): Outline {
  const cost = blocks === 0 ? 0 : costOfBlock(unit, spec)
  const reached = cost === undefined ? null : (blocks * cost) / stackParameters(spec)
  return { attentionRemoved: blocks, blocksRemoved: blocks, neuronsRemovedPerBlock: 0, reached }
}

/**
 * Returns how many parameters are removed with one block. Undefined if that depends on the choice of parts, because a norm that two parts
 * share is removed only with the second of them.
 */
function costOfBlock(unit: Method['unit'], spec: DecoderSpec): number | undefined {
  const blocks = presentBlocks(spec)
  const whole = equalCost(
    spec,
    blocks.map((block) => blockParts([block])),
  )
  if (unit !== 'submodule') return whole
  const mlps = presentParts(spec)
    .filter((part) => !isAttention(part))
    .map((part) => [part])
  const [attention, mlp] = [equalCost(spec, attentionRemovals(spec)), equalCost(spec, mlps)]
  return attention !== undefined && mlp !== undefined && attention + mlp === whole ? whole : undefined
}
