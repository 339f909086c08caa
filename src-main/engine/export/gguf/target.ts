import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { deltaNames } from '#engine/architectures/delta-names.ts'
import type { Dialect, NormRole } from '#engine/architectures/dialect.ts'
import { dialectsOf } from '#engine/architectures/index.ts'
import {
  type BlockLayout,
  type BlockTensors,
  type DecoderSpec,
  type DeltaTensors,
  denseMlp,
  isConstant,
  type MixtureTensors,
  type MlpTensors,
  type Projection,
} from '#engine/architectures/spec.ts'
import { type PackedBlock, packBlocks, type TensorNames } from '#engine/export/pruned-tensors.ts'

/** How a pruned model is laid out in a GGUF file: the architecture that computes it, and the sizes of its blocks. */
export interface GgufTarget {
  readonly dialect: Dialect
  readonly blocks: readonly PackedBlock[]
  /** Whether the file states sizes block by block. */
  readonly perBlock: boolean
  readonly heads: readonly { readonly query: number; readonly keyValue: number }[]
  /** Neurons of every written block, before padding for quantisation. */
  readonly widths: readonly number[]
  /** The number of experts in every mixture; undefined if there are no mixtures. */
  readonly experts: number | undefined
  readonly names: TensorNames
}

/** Number of zero neurons written for a removed MLP, if the architecture needs an MLP. */
const leastWidth = 32

/** llama.cpp's limit on the number of blocks. */
const mostBlocks = 512

/**
 * Chooses the architecture that runs a pruned model. This is the family's own if every block has attention and all MLPs have the same
 * width. Otherwise it is a related architecture whose blocks may differ, if there is one, or else the family's own with zeros for removed
 * parts. Throws `infeasible` if llama.cpp would answer wrongly or crash, and says what to choose instead.
 * @param padded widths to write instead of those of the plan, block by block
 */
export function chooseTarget(spec: DecoderSpec, left: readonly BlockLayout[], padded?: readonly number[]): GgufTarget {
  const family = dialectsOf(spec.family)
  if (!family) throw refuse(`Espalier cannot write GGUF files of the family ${spec.family}`)
  const blocks = family.own.keepsPlaces ? left.map(ownPlace) : packBlocks(spec, left)
  if (blocks.length === 0) throw refuse('All blocks of the model were removed')
  if (blocks.length > mostBlocks) throw refuse(`llama.cpp runs at most ${mostBlocks} blocks, but this model has ${blocks.length}`)
  const widths = blocks.map(({ mlp }) => (mlp === undefined ? 0 : at(left, mlp).width))
  const whole = blocks.every(({ attention }) => attention !== undefined)
  const even = widths.every((width) => width > 0 && width === widths[0])
  const experts = expertsOf(spec, left, blocks)
  const problem = family.own.problem(spec)
  const perBlock = family.perBlock?.problem(spec) === undefined ? family.perBlock : undefined
  if (problem === undefined && ((whole && even) || !perBlock))
    return layOut(spec, family.own, blocks, padded ?? commonWidths(spec, blocks, widths), { perBlock: false, experts })
  if (!perBlock) throw refuse(problem ?? 'llama.cpp cannot run it')
  return layOut(spec, perBlock, blocks, padded ?? widths.map((width) => width || leastWidth), { perBlock: true, experts })
}

/** Whether a written block has a mixture, as the source of its MLP has. If it has no MLP, the source of its attention decides. */
export const isMixture = ({ blocks }: DecoderSpec, { mlp, attention, place = 0 }: PackedBlock): boolean =>
  at(blocks, mlp ?? attention ?? place).experts !== undefined

/** One width for all dense MLPs and one for all experts: the largest, and at least `leastWidth` if widths differ or an MLP was removed. */
function commonWidths(spec: DecoderSpec, blocks: readonly PackedBlock[], widths: readonly number[]): number[] {
  const mixtures = blocks.map((block) => isMixture(spec, block))
  const common = (kind: boolean) => {
    const own = widths.filter((_, position) => mixtures[position] === kind)
    return own.every((width) => width > 0 && width === own[0]) ? at(own, 0) : Math.max(leastWidth, ...own)
  }
  return mixtures.map(common)
}

/**
 * The number of experts in each mixture, which must be the same in all mixtures of a file. Throws if it differs, if experts are constants
 * or too narrow for the format, or if dense blocks follow a mixture.
 */
function expertsOf(spec: DecoderSpec, left: readonly BlockLayout[], blocks: readonly PackedBlock[]): number | undefined {
  const mixtures = blocks.filter((block) => isMixture(spec, block))
  if (mixtures.length === 0) return undefined
  const present = mixtures.flatMap(({ mlp }) => (mlp === undefined ? [] : [at(left, mlp)]))
  const counts = [...new Set(present.map(({ experts }) => experts as number))]
  if (counts.length > 1)
    throw refuse(`Blocks have different numbers of experts (${counts.join(', ')}), but llama.cpp has one number for all`, 'exact')
  if (
    dialectsOf(spec.family)?.own.sharesWidth &&
    mixtures.some(({ mlp }) => mlp !== undefined && at(left, mlp).width !== at(spec.blocks, mlp).width)
  )
    throw refuse('Experts became narrower, but llama.cpp has one width for them and the shared expert', 'exact')
  if (present.some(({ constants }) => constants))
    throw refuse('Some of the experts are constants, which llama.cpp has no place for', 'exact')
  const dense = blocks.filter((block) => !isMixture(spec, block))
  const mixed = blocks.some(({ attention, mlp }) => attention !== mlp && attention !== undefined && mlp !== undefined)
  if (dense.length > 0 && (mixed || blocks.slice(0, dense.length).some((block) => isMixture(spec, block))))
    throw refuse('Some written blocks join the attention of a block without experts and the experts of another, or the reverse')
  return counts[0] ?? spec.blocks.find(({ experts }) => experts !== undefined)?.experts
}

const ownPlace = ({ attention, width }: BlockLayout, index: number): PackedBlock => ({
  attention: attention ? index : undefined,
  mlp: width > 0 ? index : undefined,
  place: index,
})

function refuse(reason: string, formats = 'stock or exact'): EspalierError {
  return new EspalierError('infeasible', `${reason}, so the format gguf cannot hold this model. Choose ${formats}.`)
}

function layOut(
  spec: DecoderSpec,
  dialect: Dialect,
  blocks: readonly PackedBlock[],
  widths: readonly number[],
  { perBlock, experts }: Pick<GgufTarget, 'perBlock' | 'experts'>,
): GgufTarget {
  // In llama.cpp, block 0 determines the head size, so it gets one head of zeros if it has no attention. If the architecture needs
  // attention everywhere, so do all other blocks.
  const heads = blocks.map(({ attention }, position) => {
    if (attention !== undefined || !perBlock) return { query: spec.heads, keyValue: spec.keyValueHeads }
    const one = position === 0 || dialect.needsAttention ? 1 : 0
    return { query: one, keyValue: one }
  })
  const names = targetNames(spec, { dialect, heads, widths, experts })
  return { dialect, blocks, perBlock, heads, widths, experts, names }
}

type Sizes = Pick<GgufTarget, 'dialect' | 'heads' | 'widths' | 'experts'>

/** The names and shapes of a model's tensors in an architecture. */
function targetNames(spec: DecoderSpec, { dialect, heads, widths, experts }: Sizes): TensorNames {
  return {
    embedding: 'token_embd.weight',
    finalNorm: { weight: 'output_norm.weight', ...(spec.finalNorm.bias ? { bias: 'output_norm.bias' } : {}) },
    head: { weight: 'output.weight', ...(spec.head.bias ? { bias: 'output.bias' } : {}) },
    block: (source, position = source) => {
      const { query, keyValue } = at(heads, position)
      return blockNames(spec, dialect, source, `blk.${position}`, { query, keyValue, width: at(widths, position), experts })
    },
  }
}

/**
 * Neurons of a shared expert in the file. If its width is tied to the experts' width, it is padded in the same proportion as the experts.
 */
export function sharedWidth({ sharesWidth }: Dialect, mixture: MixtureTensors, width: number): number {
  const own = mixture.shared?.up.rows ?? 0
  return sharesWidth ? (own / widthOf(mixture)) * width : own
}

interface BlockSizes {
  readonly query: number
  readonly keyValue: number
  readonly width: number
  readonly experts: number | undefined
}

function blockNames(spec: DecoderSpec, dialect: Dialect, block: number, prefix: string, sizes: BlockSizes): BlockTensors {
  const { query, keyValue, width, experts = 0 } = sizes
  const source = spec.block(block)
  const named = namedIn(prefix)
  const { headSize, hidden } = spec
  const fused = dialect.joinsQueryKeyValue ? 'attn_qkv' : undefined
  const norms = Object.fromEntries(
    Object.entries(dialect.norms).flatMap(([role, part]) => {
      const like = source[role as NormRole]
      return like ? [[role, { ...like, ...named(part, like) }]] : []
    }),
  )
  const projection = (part: string, like: Projection, rows: number, columns: number) => ({
    ...named(part, like),
    firstRow: 0,
    rows,
    columns,
  })
  const attention = {
    query: projection(fused ?? 'attn_q', source.query, query * headSize * (spec.gatedQueries ? 2 : 1), hidden),
    key: projection(fused ?? 'attn_k', source.key, keyValue * headSize, hidden),
    value: projection(fused ?? 'attn_v', source.value, keyValue * headSize, hidden),
    output: projection('attn_output', source.output, hidden, query * headSize),
  }
  return {
    ...norms,
    ...(source.delta ? deltaTensors(source, source.delta, prefix) : attention),
    ...(source.sinks ? { sinks: { weight: `${prefix}.attn_sinks.weight`, shape: [query] } } : {}),
    ...(source.mixture
      ? { mixture: mixtureNames(source.mixture, prefix, { experts, width, hidden, shared: sharedWidth(dialect, source.mixture, width) }) }
      : mlpNames(denseMlp(source), projection, { width, hidden, joined: dialect.joinsGateUp })),
  } as BlockTensors
}

/** The tensors of a Gated DeltaNet. In a GGUF file, its convolution has no middle dimension. */
function deltaTensors({ query, key, value, output }: BlockTensors, delta: DeltaTensors, prefix: string): Partial<BlockTensors> {
  const named = <Like extends { readonly weight: string }>(key: keyof typeof deltaNames, like: Like): Like => ({
    ...like,
    weight: `${prefix}.${deltaNames[key]}`,
  })
  const { shape } = delta.convolution
  const own = Object.entries(delta).map(([key, like]) => [key, named(key as keyof DeltaTensors, like as Projection)])
  return {
    query: named('joined', query),
    key: named('joined', key),
    value: named('joined', value),
    output: named('output', output),
    delta: {
      ...(Object.fromEntries(own) as unknown as DeltaTensors),
      convolution: named('convolution', { ...delta.convolution, shape: [at(shape, 0), at(shape, 2)] }),
    },
  }
}

/** Returns a function that gives a projection its name in llama.cpp, and its bias too if it has one. */
const namedIn =
  (prefix: string) =>
  (part: string, { bias }: Pick<Projection, 'bias'>): Pick<Projection, 'weight' | 'bias'> => ({
    weight: `${prefix}.${part}.weight`,
    ...(bias ? { bias: `${prefix}.${part}.bias` } : {}),
  })

function mlpNames(
  { gate, up, down }: MlpTensors,
  projection: (part: string, like: Projection, rows: number, columns: number) => Projection,
  { width, hidden, joined }: { width: number; hidden: number; joined: boolean },
): MlpTensors {
  return {
    ...(gate ? { gate: projection(joined ? 'ffn_up' : 'ffn_gate', gate, width, hidden) } : {}),
    up: projection('ffn_up', up, width, hidden),
    down: projection('ffn_down', down, hidden, width),
  }
}

interface MixtureSizes {
  readonly experts: number
  /** Neurons of each expert in the file, including padding with zero neurons. */
  readonly width: number
  readonly hidden: number
  /** Neurons of the shared expert. */
  readonly shared: number
}

/** Neurons of a mixture's experts before pruning. */
function widthOf({ experts }: MixtureTensors): number {
  const first = experts.find((expert) => !isConstant(expert))
  return first && !isConstant(first) ? first.up.rows : 0
}

/**
 * The projections of a block's mixture as llama.cpp stores them: under its names, with one tensor per kind of projection that holds all
 * experts.
 */
function mixtureNames(source: MixtureTensors, prefix: string, sizes: MixtureSizes): MixtureTensors {
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
