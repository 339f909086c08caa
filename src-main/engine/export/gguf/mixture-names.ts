import { isConstant, type MixtureTensors, type MlpTensors, type Projection } from '#engine/architectures/spec.ts'

interface MixtureSizes {
  readonly experts: number
  /** Neurons of each expert, including those of zeros. */
  readonly width: number
  readonly hidden: number
  /** Neurons of the shared expert. */
  readonly shared: number
}

/** Neurons of a mixture's experts before pruning. */
export function widthOf({ experts }: MixtureTensors): number {
  const own = experts.find((expert) => !isConstant(expert))
  return own && !isConstant(own) ? own.up.rows : 0
}

/** The names that llama.cpp gives a block's mixture. One tensor per projection holds all experts. */
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
  const whole = (part: string, like: Projection): Projection => ({
    ...like,
    weight: `${prefix}.${part}.weight`,
    firstRow: 0,
    ...(like.bias === undefined ? {} : { bias: `${prefix}.${part}.bias` }),
  })
  const inner = (part: string, like: Projection): Projection => ({ ...whole(part, like), rows: sizes.shared })
  const sharedNames = shared && {
    ...(shared.gate ? { gate: inner('ffn_gate_shexp', shared.gate) } : {}),
    up: inner('ffn_up_shexp', shared.up),
    down: { ...whole('ffn_down_shexp', shared.down), columns: sizes.shared },
  }
  return {
    router: { ...whole('ffn_gate_inp', router), rows: experts },
    ...(correction ? { correction: { weight: `${prefix}.exp_probs_b.bias`, shape: [experts] } } : {}),
    experts: Array.from({ length: experts }, (_, place) => mlp(place)),
    expertsName: `${prefix}.experts`,
    ...(sharedNames ? { shared: sharedNames } : {}),
    ...(sharedGate ? { sharedGate: whole('ffn_gate_inp_shexp', sharedGate) } : {}),
  }
}
