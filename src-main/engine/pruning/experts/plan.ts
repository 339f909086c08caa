import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { stackParameters } from '#engine/architectures/parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { densePlan, removedParameters } from '../plan.ts'
import { type ExpertBudget, expertsToRemove, mixturesOf, type RemovedExperts, removableExperts } from './lowest-ranked-experts.ts'

/** What replaces a removed expert: nothing, or a constant vector. */
export type ExpertReplacement = 'dropped' | 'constant'

/** Returns the plan without some experts. */
export function planWithoutExperts(spec: DecoderSpec, gone: RemovedExperts, removed: ExpertReplacement): Plan {
  const blocks = densePlan(spec).blocks.map((block, index) => {
    const own = gone.get(index) ?? []
    if (own.length === 0) return block
    const count = spec.blocks[index]?.experts ?? 0
    const experts = Array.from({ length: count }, (_, expert) => expert).filter((expert) => !own.includes(expert))
    return { ...block, mlp: { kept: 'all' as const, experts, ...(removed === 'constant' ? { constants: [...own] } : {}) } }
  })
  return { blocks }
}

/** Returns the share of all experts that corresponds to a sparsity of the block stack. */
export function shareOf(spec: DecoderSpec, sparsity: number, removed: ExpertReplacement): number {
  const mixtures = mixturesOf(spec)
  const [first] = mixtures
  if (!first) return 0
  const one = removedParameters(spec, planWithoutExperts(spec, new Map([[first.block, first.experts.slice(0, 1)]]), removed))
  return (sparsity * stackParameters(spec)) / (one * mixtures.reduce((sum, { experts }) => sum + experts.length, 0))
}

/**
 * Returns the sparsity of the block stack without a share of the experts of each mixture. Throws `infeasible` if the model has no experts,
 * or if too few would remain.
 */
export function sparsityOfExperts(spec: DecoderSpec, share: number): number {
  const [gone = new Map()] = likelyGone(spec, expertsToRemove(spec, share, 'uniform'), 'uniform')
  return removedParameters(spec, planWithoutExperts(spec, gone, 'dropped')) / stackParameters(spec)
}

/**
 * Returns the extremes that are possible before experts are scored: the same number from each mixture and, with a free budget, also all
 * that the first mixtures can lose.
 */
export function likelyGone(spec: DecoderSpec, wanted: readonly number[], budget: ExpertBudget): RemovedExperts[] {
  const mixtures = mixturesOf(spec)
  const most = removableExperts(spec)
  const firsts = (counts: readonly number[]): RemovedExperts =>
    new Map(mixtures.map(({ block, experts }, index) => [block, experts.slice(0, at(counts, index))]))
  if (budget === 'uniform') return [firsts(wanted)]
  const [total = 0] = wanted
  let left = total
  const uneven = most.map((limit) => {
    const own = Math.min(left, limit)
    left -= own
    return own
  })
  const even = most.map((_, index) => Math.floor((total * (index + 1)) / most.length) - Math.floor((total * index) / most.length))
  return [firsts(even), firsts(uneven)]
}
