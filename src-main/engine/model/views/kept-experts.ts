import type { MlpPlan } from '#contract/pruning/plan.ts'
import { type BlockLayout, constantAt, isConstant, type MixtureTensors, type MlpTensors } from '#engine/architectures/spec.ts'

/** An expert that a plan leaves in a mixture: one that the router still knows, in ascending order, perhaps as a vector. */
export interface KeptExpert {
  readonly number: number
  readonly constant: boolean
  /** Its kept neurons, in index order. */
  readonly kept: readonly number[] | 'all'
}

/** What a plan leaves of a mixture with `count` experts. */
export function keptExperts(mlp: Exclude<MlpPlan, 'removed'>, count: number): KeptExpert[] {
  const whole = mlp.experts ?? Array.from({ length: count }, (_, expert) => expert)
  const own = whole.map((number, place): KeptExpert => ({ number, constant: false, kept: mlp.keptByExpert?.[place] ?? 'all' }))
  const constants = (mlp.constants ?? []).map((number): KeptExpert => ({ number, constant: true, kept: 'all' }))
  return [...own, ...constants].sort((a, b) => a.number - b.number)
}

/** The layout of a block with a mixture as a plan leaves it. */
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

/** A mixture's tensors for what a plan leaves. Experts that share a tensor follow each other in it. */
export function keptMixture(mixture: MixtureTensors, mlp: Exclude<MlpPlan, 'removed'>, hidden: number): MixtureTensors {
  const kept = keptExperts(mlp, mixture.experts.length)
  const living = kept.filter(({ number, constant }) => !constant && !isConstant(mixture.experts[number] as MlpTensors))
  const experts = kept.map((one, place): MixtureTensors['experts'][number] => {
    const expert = mixture.experts[one.number] as MixtureTensors['experts'][number]
    if (one.constant || isConstant(expert)) return constantAt(mixture, place, hidden)
    const width = one.kept === 'all' ? expert.up.rows : one.kept.length
    return narrowed(expert, width, living.indexOf(one), living.length)
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
