import { EspalierError } from '#contract/errors.ts'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import {
  type BlockLayout,
  constantAt,
  type DecoderSpec,
  isConstant,
  layoutOf,
  type MixtureTensors,
  type MlpTensors,
  type RouterKind,
} from '#engine/architectures/spec.ts'

/** An expert that a plan leaves in a mixture, because the router can still choose it. It may have become a constant vector. */
export interface KeptExpert {
  readonly number: number
  readonly constant: boolean
  /** The expert's kept neurons, in index order. */
  readonly kept: readonly number[] | 'all'
}

/** The experts that a plan leaves of `count`, in ascending order. */
export function keptExperts(mlp: Exclude<MlpPlan, 'removed'>, count: number): KeptExpert[] {
  const staying = mlp.experts ?? Array.from({ length: count }, (_, expert) => expert)
  const experts = staying.map((number, place): KeptExpert => ({ number, constant: false, kept: mlp.keptByExpert?.[place] ?? 'all' }))
  const constants = (mlp.constants ?? []).map((number): KeptExpert => ({ number, constant: true, kept: 'all' }))
  return [...experts, ...constants].sort((a, b) => a.number - b.number)
}

/** The layout that a plan leaves of a block with a mixture. */
export function mixtureLayout(layout: BlockLayout, mlp: Exclude<MlpPlan, 'removed'>): BlockLayout {
  const kept = keptExperts(mlp, layout.experts ?? 0)
  const before = new Set(layout.constants)
  const constants = [...kept.keys()].filter((place) => kept[place]?.constant || before.has(kept[place]?.number ?? -1))
  return {
    attention: layout.attention,
    width: mlp.keptByExpert?.[0]?.length ?? layout.width,
    experts: kept.length,
    ...(constants.length > 0 ? { constants } : {}),
  }
}

/** The tensors of a mixture as a plan leaves it. If experts share a tensor, the remaining ones follow each other in it. */
export function keptMixture(mixture: MixtureTensors, mlp: Exclude<MlpPlan, 'removed'>, hidden: number): MixtureTensors {
  const kept = keptExperts(mlp, mixture.experts.length)
  const computing = kept.filter(({ number, constant }) => !constant && !isConstant(mixture.experts[number] as MlpTensors))
  const experts = kept.map((one, place): MixtureTensors['experts'][number] => {
    const expert = mixture.experts[one.number] as MixtureTensors['experts'][number]
    if (one.constant || isConstant(expert)) return constantAt(mixture, place, hidden)
    const width = one.kept === 'all' ? expert.up.rows : one.kept.length
    return narrowed(expert, width, computing.indexOf(one), computing.length)
  })
  return {
    ...mixture,
    router: { ...mixture.router, rows: kept.length },
    ...(mixture.correction ? { correction: { ...mixture.correction, shape: [kept.length] } } : {}),
    experts,
  }
}

function narrowed({ gate, up, down }: MlpTensors, width: number, place: number, count: number): MlpTensors {
  if (!up.shape)
    return { ...(gate ? { gate: { ...gate, rows: width } } : {}), up: { ...up, rows: width }, down: { ...down, columns: width } }
  const inner = { rows: width, shape: [count, 2 * width, up.columns] }
  return {
    ...(gate ? { gate: { ...gate, ...inner, firstRow: 2 * place * width } } : {}),
    up: { ...up, ...inner, firstRow: (2 * place + 1) * width },
    down: { ...down, columns: width, firstRow: place * down.rows, shape: [count, down.rows, width] },
  }
}

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
