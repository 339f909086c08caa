import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { type DecoderSpec, layoutOf, type RouterKind } from '#engine/architectures/spec.ts'
import { fewestExperts } from '#engine/model/views/kept-experts.ts'
import { roundHalfEven } from '#engine/pruning/selection.ts'
import { densePlan, removedParameters } from '../plan.ts'

/** The numbers of the experts removed from each block, ascending. Blocks that lose none are absent. */
export type RemovedExperts = ReadonlyMap<number, readonly number[]>

/**
 * `uniform` removes the same number of experts from each mixture. `free` removes the experts with the lowest scores in the whole model, so
 * some mixtures may lose more than others.
 */
export type ExpertBudget = 'uniform' | 'free'

/** How early an expert is removed: lower scores first. Experts with `last` are removed only if removing all others is not enough. */
export interface Rank {
  readonly score: number
  readonly last: boolean
}

/** Experts that are removed together: one, or one from each group. */
interface RemovalStep extends Rank {
  readonly block: number
  readonly experts: readonly number[]
}

/**
 * Returns the blocks with a mixture, and the numbers of its experts. Experts that were already replaced by constants are left out, and so
 * are mixtures in which all experts were.
 */
export function mixturesOf(spec: DecoderSpec): { block: number; experts: number[] }[] {
  return spec.blocks.flatMap(({ width, experts = 0, constants = [] }, block) => {
    const remaining = Array.from({ length: experts }, (_, expert) => expert).filter((expert) => !constants.includes(expert))
    return width > 0 && remaining.length > 0 ? [{ block, experts: remaining }] : []
  })
}

/**
 * Returns how many experts each mixture can lose, in order of blocks. It must keep at least as many as `fewestExperts` says. If the router
 * has groups, each group loses the same number.
 */
export function removableExperts(spec: DecoderSpec): number[] {
  const { router } = spec
  if (!router) return []
  const groups = groupsOf(router)
  return mixturesOf(spec).map(({ experts }) => Math.max(0, groups * Math.floor((experts.length - fewestExperts(router)) / groups)))
}

/**
 * Returns how many experts to remove for a share of all experts: a number per mixture if the budget is uniform, otherwise one number in
 * total. Throws `infeasible` if that many cannot be removed.
 */
export function expertsToRemove(spec: DecoderSpec, share: number, budget: ExpertBudget): number[] {
  if (!spec.router)
    throw new EspalierError(
      'infeasible',
      `A ${spec.family} model has no mixtures of experts, so there are no experts to remove. Choose another method, or a mixture-of-experts model.`,
    )
  const groups = groupsOf(spec.router)
  const inWholeGroups = (count: number) => groups * Math.floor(roundHalfEven(count * share) / groups)
  const [sizes, removable] = [mixturesOf(spec).map(({ experts }) => experts.length), removableExperts(spec)]
  const [wanted, limits] = budget === 'uniform' ? [sizes.map(inWholeGroups), removable] : [[inWholeGroups(sum(sizes))], [sum(removable)]]
  for (const [index, count] of wanted.entries()) {
    const limit = at(limits, index)
    if (count > limit) throw tooMany(spec.router, count, limit, budget === 'uniform' ? at(sizes, index) : sum(sizes), budget)
  }
  return wanted
}

function tooMany({ chosen, groups }: RouterKind, count: number, limit: number, size: number, budget: ExpertBudget): EspalierError {
  const total = budget === 'uniform' ? `the ${size} experts of a mixture` : `all ${size} experts`
  const inGroups = groups ? ` from ${groups.count} groups` : ''
  return new EspalierError(
    'infeasible',
    `This removes ${count} of ${total}, but at most ${limit} can be removed, because the router picks ${chosen}${inGroups}. Choose a share of ${Math.floor((100 * limit) / size) / 100} or less.`,
  )
}

/**
 * Returns the experts to remove, which are those of lowest rank. Of experts with equal ranks, the one in the earlier block is removed
 * first, and within a block the one with the lower number. `wanted` comes from `expertsToRemove`.
 */
export function lowestRankedExperts(
  spec: DecoderSpec,
  wanted: readonly number[],
  budget: ExpertBudget,
  rank: (block: number, expert: number) => Rank,
): RemovedExperts {
  const groups = groupsOf(spec.router as RouterKind)
  const removable = removableExperts(spec)
  const steps = mixturesOf(spec).map(({ block, experts }, index) =>
    stepsOf(block, groupExperts(experts, layoutOf(spec, block).experts ?? 0, groups), rank).slice(0, at(removable, index) / groups),
  )
  const chosen =
    budget === 'uniform'
      ? steps.flatMap((ofMixture, index) => ofMixture.slice(0, at(wanted, index) / groups))
      : steps
          .flat()
          .sort((a, b) => inOrder(a, b) || a.block - b.block || at(a.experts, 0) - at(b.experts, 0))
          .slice(0, at(wanted, 0) / groups)
  const removed = new Map<number, number[]>()
  for (const { block, experts } of chosen) removed.set(block, [...(removed.get(block) ?? []), ...experts])
  return new Map([...removed].sort(([a], [b]) => a - b).map(([block, experts]) => [block, experts.sort((a, b) => a - b)]))
}

const inOrder = (a: Rank, b: Rank): number => Number(a.last) - Number(b.last) || a.score - b.score

/**
 * Returns the experts of one mixture in the order of their removal. If the router has groups, the lowest-ranked remaining expert of every
 * group is removed in the same step.
 */
function stepsOf(block: number, grouped: readonly number[][], rank: (block: number, expert: number) => Rank): RemovalStep[] {
  const ordered = grouped.map((experts) =>
    experts.map((expert) => ({ expert, ...rank(block, expert) })).sort((a, b) => inOrder(a, b) || a.expert - b.expert),
  )
  const length = Math.min(...ordered.map((group) => group.length))
  return Array.from({ length }, (_, step) => {
    const removed = ordered.flatMap((group) => group[step] ?? [])
    return {
      block,
      experts: removed.map(({ expert }) => expert),
      score: sum(removed.map(({ score }) => score)) / removed.length,
      last: removed.some(({ last }) => last),
    }
  })
}

/** Returns the experts of each of the router's groups. `count` is the number of experts that the router knows. */
function groupExperts(experts: readonly number[], count: number, groups: number): number[][] {
  const size = count / groups
  return Array.from({ length: groups }, (_, group) => experts.filter((expert) => Math.floor(expert / size) === group))
}

const groupsOf = ({ groups }: RouterKind): number => groups?.count ?? 1
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

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
