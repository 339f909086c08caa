import { isConstant, type MixtureTensors, type MlpTensors, type Projection } from '#engine/architectures/spec.ts'

interface MixtureSizes {
  readonly experts: number
  /** Neurons of each expert in the file, including padding with zero neurons. */
  readonly width: number
  readonly hidden: number
  /** Neurons of the shared expert. */
  readonly shared: number
}

/** Neurons of a mixture's experts before pruning. */
export function widthOf({ experts }: MixtureTensors): number {
  const first = experts.find((expert) => !isConstant(expert))
  return first && !isConstant(first) ? first.up.rows : 0
}

/**
 * The projections of a block's mixture as llama.cpp stores them: under its names, with one tensor per kind of projection that holds all
 * experts.
 */
export function mixtureNames(source: MixtureTensors, prefix: string, sizes: MixtureSizes): MixtureTensors {
  const { experts, width, hidden } = sizes
  const rows = (part: string, place: number, each: number, columns: number): Projection => ({
    weight: `${prefix}.${part}.weight`,
    firstRow: place * each,
    rows: each,
    columns,
    shape: [experts, each, columns],
  })
  const { router, correction, shared, sharedGate } = source
  const biased = source.experts.some((expert) => !isConstant(expert) && expert.down.bias !== undefined)
  const bias = (part: string) => (biased ? { bias: `${prefix}.${part}.bias` } : {})
  const mlp = (place: number): MlpTensors => ({
    gate: { ...rows('ffn_gate_exps', place, width, hidden), ...bias('ffn_gate_exps') },
    up: { ...rows('ffn_up_exps', place, width, hidden), ...bias('ffn_up_exps') },
    down: { ...rows('ffn_down_exps', place, hidden, width), ...bias('ffn_down_exps') },
  })
  const renamed = (part: string, original: Projection): Projection => ({
    ...original,
    weight: `${prefix}.${part}.weight`,
    firstRow: 0,
    ...(original.bias === undefined ? {} : { bias: `${prefix}.${part}.bias` }),
  })
  const sharedRows = (part: string, original: Projection): Projection => ({ ...renamed(part, original), rows: sizes.shared })
  const sharedNames = shared && {
    ...(shared.gate ? { gate: sharedRows('ffn_gate_shexp', shared.gate) } : {}),
    up: sharedRows('ffn_up_shexp', shared.up),
    down: { ...renamed('ffn_down_shexp', shared.down), columns: sizes.shared },
  }
  return {
    router: { ...renamed('ffn_gate_inp', router), rows: experts },
    ...(correction ? { correction: { weight: `${prefix}.exp_probs_b.bias`, shape: [experts] } } : {}),
    experts: Array.from({ length: experts }, (_, place) => mlp(place)),
    expertsName: `${prefix}.experts`,
    ...(sharedNames ? { shared: sharedNames } : {}),
    ...(sharedGate ? { sharedGate: renamed('ffn_gate_inp_shexp', sharedGate) } : {}),
  }
}
