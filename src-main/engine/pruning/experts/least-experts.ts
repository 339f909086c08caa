import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { type DecoderSpec, layoutOf, type RouterKind } from '#engine/architectures/spec.ts'
import { fewestExperts } from '#engine/model/views/check-experts.ts'
import { roundHalfEven } from '../budget.ts'

/** The removed experts of each block, as ascending numbers. Blocks that lose none are absent. */
export type GoneExperts = ReadonlyMap<number, readonly number[]>

/** Whether each mixture loses the same number of experts (`uniform`), or the lowest scores of all mixtures go (`free`). */
export type ExpertBudget = 'uniform' | 'free'

/** How early an expert is removed. Experts with `last` are removed only if the others are not enough. */
export interface Rank {
  readonly score: number
  readonly last: boolean
}

/** Experts that are removed together: one, or one from each group. */
interface Turn extends Rank {
  readonly block: number
  readonly experts: readonly number[]
}

/** Returns the blocks with a mixture, and the numbers of its experts that are not yet constants. */
export function mixturesOf(spec: DecoderSpec): { block: number; experts: number[] }[] {
  return spec.blocks.flatMap(({ width, experts = 0, constants = [] }, block) => {
    const own = Array.from({ length: experts }, (_, expert) => expert).filter((expert) => !constants.includes(expert))
    return width > 0 && own.length > 0 ? [{ block, experts: own }] : []
  })
}

/** Returns how many experts each mixture can lose, in order of blocks. A router keeps at least as many experts as it picks. */
export function removableExperts(spec: DecoderSpec): number[] {
  const { router } = spec
  if (!router) return []
  const groups = groupsOf(router)
  return mixturesOf(spec).map(({ experts }) => Math.max(0, groups * Math.floor((experts.length - fewestExperts(router)) / groups)))
}

/**
 * Returns how many experts a share amounts to: for each mixture if the budget is uniform, otherwise in total. Throws `infeasible` if that
 * many cannot be removed.
 */
export function expertsToRemove(spec: DecoderSpec, share: number, budget: ExpertBudget): number[] {
  if (!spec.router)
    throw new EspalierError(
      'infeasible',
      `A ${spec.family} model has no mixtures of experts, so there are no experts to remove. Choose another method, or a mixture.`,
    )
  const groups = groupsOf(spec.router)
  const inWholeGroups = (count: number) => groups * Math.floor(roundHalfEven(count * share) / groups)
  const [sizes, most] = [mixturesOf(spec).map(({ experts }) => experts.length), removableExperts(spec)]
  const [wanted, limits] = budget === 'uniform' ? [sizes.map(inWholeGroups), most] : [[inWholeGroups(sum(sizes))], [sum(most)]]
  for (const [index, count] of wanted.entries()) {
    const limit = at(limits, index)
    if (count > limit) throw tooMany(spec.router, count, limit, budget === 'uniform' ? at(sizes, index) : sum(sizes), budget)
  }
  return wanted
}

function tooMany({ chosen, groups }: RouterKind, count: number, limit: number, size: number, budget: ExpertBudget): EspalierError {
  const of = budget === 'uniform' ? `the ${size} experts of a mixture` : `all ${size} experts`
  const inGroups = groups ? ` from ${groups.count} groups` : ''
  return new EspalierError(
    'infeasible',
    `This removes ${count} of ${of}, but a router that picks ${chosen}${inGroups} can lose at most ${limit}. Choose a share of ${Math.floor((100 * limit) / size) / 100} or less.`,
  )
}

/**
 * Returns the experts with the lowest scores. Ties go to the lower block, then to the lower number. `wanted` comes from `expertsToRemove`.
 */
export function leastExperts(
  spec: DecoderSpec,
  wanted: readonly number[],
  budget: ExpertBudget,
  rank: (block: number, expert: number) => Rank,
): GoneExperts {
  const groups = groupsOf(spec.router as RouterKind)
  const most = removableExperts(spec)
  const turns = mixturesOf(spec).map(({ block, experts }, index) =>
    turnsOf(block, groupExperts(experts, layoutOf(spec, block).experts ?? 0, groups), rank).slice(0, at(most, index) / groups),
  )
  const chosen =
    budget === 'uniform'
      ? turns.flatMap((own, index) => own.slice(0, at(wanted, index) / groups))
      : turns
          .flat()
          .sort((a, b) => inOrder(a, b) || a.block - b.block || at(a.experts, 0) - at(b.experts, 0))
          .slice(0, at(wanted, 0) / groups)
  const gone = new Map<number, number[]>()
  for (const { block, experts } of chosen) gone.set(block, [...(gone.get(block) ?? []), ...experts])
  return new Map([...gone].sort(([a], [b]) => a - b).map(([block, experts]) => [block, experts.sort((a, b) => a - b)]))
}

const inOrder = (a: Rank, b: Rank): number => Number(a.last) - Number(b.last) || a.score - b.score

/** Returns the experts of one mixture in the order of removal. With groups, the lowest of each group are removed together. */
function turnsOf(block: number, grouped: readonly number[][], rank: (block: number, expert: number) => Rank): Turn[] {
  const ordered = grouped.map((experts) =>
    experts.map((expert) => ({ expert, ...rank(block, expert) })).sort((a, b) => inOrder(a, b) || a.expert - b.expert),
  )
  const length = Math.min(...ordered.map((own) => own.length))
  return Array.from({ length }, (_, turn) => {
    const together = ordered.flatMap((group) => group[turn] ?? [])
    return {
      block,
      experts: together.map(({ expert }) => expert),
      score: sum(together.map(({ score }) => score)) / together.length,
      last: together.some(({ last }) => last),
    }
  })
}

function groupExperts(experts: readonly number[], count: number, groups: number): number[][] {
  const size = count / groups
  return Array.from({ length: groups }, (_, group) => experts.filter((expert) => Math.floor(expert / size) === group))
}

const groupsOf = ({ groups }: RouterKind): number => groups?.count ?? 1
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
