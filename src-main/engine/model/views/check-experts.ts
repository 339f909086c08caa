import { EspalierError } from '#contract/errors.ts'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import { type DecoderSpec, layoutOf, type RouterKind } from '#engine/architectures/spec.ts'

/** Throws if what a plan says about the experts of a block does not fit the model, or if it leaves too few experts for the router. */
export function checkExperts(spec: DecoderSpec, block: number, mlp: Exclude<MlpPlan, 'removed'>): void {
  const { experts, constants, keptByExpert, expertScale } = mlp
  if (!experts && !constants && !keptByExpert && expertScale === undefined) return
  const { experts: count = 0, width } = layoutOf(spec, block)
  const wrong = (what: string) => new EspalierError('invalid', `The plan's experts of block ${block} do not fit: ${what}.`)
  if (!spec.router || count === 0) throw wrong('its MLP is not a mixture of experts')
  for (const list of [experts ?? [], constants ?? []]) requireAscending(list, count, wrong)
  if (constants && !experts) throw wrong('it lists constants, but not the experts that stay')
  const both = constants?.find((number) => experts?.includes(number))
  if (both !== undefined) throw wrong(`expert ${both} both stays and is a constant`)
  const remaining = experts?.length ?? count
  if (keptByExpert && keptByExpert.length !== remaining)
    throw wrong(`it lists neurons of ${keptByExpert.length} experts, but ${remaining} stay`)
  for (const kept of keptByExpert ?? []) {
    requireAscending(kept, width, wrong)
    if (kept.length !== keptByExpert?.[0]?.length || kept.length === 0) throw wrong('its experts must keep the same number of neurons')
  }
  requireEnough(spec.router, { known: remaining + (constants?.length ?? 0), block })
}

function requireAscending(list: readonly number[], limit: number, wrong: (what: string) => EspalierError): void {
  const bad = list.find((number, place) => number >= limit || (place > 0 && number <= (list[place - 1] ?? -1)))
  if (bad !== undefined) throw wrong(`numbers must be ascending and below ${limit}, but it has ${bad}`)
}

/** Throws if a router would know fewer experts than it needs, or could not divide them into equal groups. */
function requireEnough(router: RouterKind, { known, block }: { known: number; block: number }): void {
  const { groups } = router
  const needed = fewestExperts(router)
  if (known >= needed && known % (groups?.count ?? 1) === 0) return
  const inGroups = groups ? `, in ${groups.count} groups of equal size` : ''
  throw new EspalierError(
    'infeasible',
    `The plan leaves ${known} experts in block ${block}; its router needs at least ${needed}${inGroups}. Remove fewer experts.`,
  )
}

/**
 * The fewest experts that a mixture can have. Without groups, it is the number that the router chooses. With groups, the open ones must
 * hold that number, and each group needs at least two experts.
 */
export function fewestExperts({ chosen, groups }: Pick<RouterKind, 'chosen' | 'groups'>): number {
  return groups ? groups.count * Math.max(2, Math.ceil(chosen / groups.open)) : chosen
}
