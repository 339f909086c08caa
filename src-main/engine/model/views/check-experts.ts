import { EspalierError } from '#contract/errors.ts'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import { type DecoderSpec, layoutOf, type RouterKind } from '#engine/architectures/spec.ts'

/** Throws if a plan's experts of a block are not the model's, or too few for its router. */
export function checkExperts(spec: DecoderSpec, block: number, mlp: Exclude<MlpPlan, 'removed'>): void {
  const { experts, constants, keptByExpert, expertScale } = mlp
  if (!experts && !constants && !keptByExpert && expertScale === undefined) return
  const { experts: count = 0, width } = layoutOf(spec, block)
  const wrong = (what: string) => new EspalierError('invalid', `The plan's experts of block ${block} do not fit: ${what}.`)
  if (!spec.router || count === 0) throw wrong('its MLP is no mixture of experts')
  for (const list of [experts ?? [], constants ?? []]) requireAscending(list, count, wrong)
  if (constants && !experts) throw wrong('it lists constants without the experts that stay')
  const both = constants?.find((number) => experts?.includes(number))
  if (both !== undefined) throw wrong(`expert ${both} both stays and is a constant`)
  const left = experts?.length ?? count
  if (keptByExpert && keptByExpert.length !== left) throw wrong(`it lists neurons of ${keptByExpert.length} experts, ${left} stay`)
  for (const kept of keptByExpert ?? []) {
    requireAscending(kept, width, wrong)
    if (kept.length !== keptByExpert?.[0]?.length || kept.length === 0) throw wrong('its experts must keep the same number of neurons')
  }
  requireEnough(spec.router, { known: left + (constants?.length ?? 0), block })
}

function requireAscending(list: readonly number[], limit: number, wrong: (what: string) => EspalierError): void {
  const bad = list.find((number, place) => number >= limit || (place > 0 && number <= (list[place - 1] ?? -1)))
  if (bad !== undefined) throw wrong(`numbers must be ascending and below ${limit}, it has ${bad}`)
}

/** Throws if a router would have fewer experts than it picks, or groups that do not divide. */
function requireEnough(router: RouterKind, { known, block }: { known: number; block: number }): void {
  const { groups } = router
  const least = fewestExperts(router)
  if (known >= least && known % (groups?.count ?? 1) === 0) return
  const inGroups = groups ? `, in ${groups.count} groups of equal size` : ''
  throw new EspalierError(
    'infeasible',
    `The plan leaves ${known} experts in block ${block}; its router needs at least ${least}${inGroups}. Remove fewer experts.`,
  )
}

/** The fewest experts that a mixture can have: what a router picks, in all groups that it may open, with two in each. */
export function fewestExperts({ chosen, groups }: Pick<RouterKind, 'chosen' | 'groups'>): number {
  return groups ? groups.count * Math.max(2, Math.ceil(chosen / groups.open)) : chosen
}
