import type { MlpPlan } from '#contract/pruning/plan.ts'
import { type BlockLayout, constantAt, isConstant, type MixtureTensors, type MlpTensors } from '#engine/architectures/spec.ts'

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
