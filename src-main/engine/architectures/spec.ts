import { EspalierError } from '#contract/errors.ts'
import type { Activation, NeuronLimit } from '#engine/tensor/activation.ts'
import type { Rotary } from '#engine/tensor/rotary.ts'

/**
 * What a decoder is made of, read from a family's table and the checkpoint's config.
 * Sizes follow the shape legend of engine/tensor: D hidden, I intermediate, H heads, K key/value heads, d head size, L blocks, V vocabulary.
 */

/** Rows [firstRow, firstRow + rows) of a stored weight [rows, columns], with the same rows of its bias when it has one. */
export interface Projection {
  readonly weight: string
  readonly firstRow: number
  readonly rows: number
  readonly columns: number
  readonly bias?: string
  /** Of the stored tensor, where that has more dimensions; rows are counted through all but the last. */
  readonly shape?: readonly number[]
}

export interface NormTensors {
  readonly weight: string
  readonly bias?: string
  /** Entries, where they are not the hidden size. */
  readonly size?: number
  /** Its weights went into the projections behind it: the file has ones, which are no parameters. */
  readonly ones?: true
}

/** A stored tensor that is neither projection nor norm. */
export interface ShapedTensor {
  readonly weight: string
  readonly shape: readonly number[]
}

/** What a Gated DeltaNet has besides query, key, value and output: projections of gate, strength and rate, and tensors of its own. */
export interface DeltaTensors {
  readonly gate: Projection
  readonly strength: Projection
  readonly rate: Projection
  /** [channels, 1, k]. */
  readonly convolution: ShapedTensor
  /** Logarithm of how fast each head forgets, and what is added to its rate: [Hv] each. */
  readonly decay: ShapedTensor
  readonly rateBias: ShapedTensor
  /** On what each head reads: [dv]. */
  readonly readNorm: ShapedTensor
}

/** An MLP; without a gate its neurons are the activation of `up` alone. */
export interface MlpTensors {
  readonly gate?: Projection
  readonly up: Projection
  readonly down: Projection
}

/** What replaces a removed expert: a vector [D] that its share of the output is. */
export interface ConstantTensors {
  readonly constant: ShapedTensor
}

/** An MLP of several experts, of which a router chooses some for each token. */
export interface MixtureTensors {
  /** [E, D], from the stream through the norm to a score of each expert. */
  readonly router: Projection
  /** Added to scores for the choice alone: [E]. */
  readonly correction?: ShapedTensor
  readonly experts: readonly (MlpTensors | ConstantTensors)[]
  /** What names of one expert's own tensors begin with, before its place. */
  readonly expertsName: string
  /** An MLP that every token meets, times the sigmoid of `sharedGate` [1, D] where there is one. */
  readonly shared?: MlpTensors
  readonly sharedGate?: Projection
}

/** How routers choose, in every mixture of a model. */
export interface RouterKind {
  /** Experts that a token meets. */
  readonly chosen: number
  /** What makes an expert's weight of its logit: a softmax over all, or a sigmoid of each. */
  readonly scores: 'softmax' | 'sigmoid'
  /** Whether weights of the chosen are divided by their sum. */
  readonly renormalised: boolean
  /** What the weights are multiplied by. */
  readonly scale?: number
  /** Experts of one mixture come in `count` groups, of which a token may choose from the best `open`. */
  readonly groups?: { readonly count: number; readonly open: number }
  /** The config's words for the number of experts, the one to write first, and for an expert's width. */
  readonly countKeys: readonly string[]
  readonly widthKey: string
}

/** Heads of a Gated DeltaNet; each key head serves as many consecutive value heads. */
export interface DeltaShape {
  readonly keyHeads: number
  readonly valueHeads: number
  readonly keySize: number
  readonly valueSize: number
}

/**
 * Names of one block's tensors. With `delta` its token mixer is a Gated DeltaNet, which replaces attention. A submodule may have a norm on what it reads, one on what it adds to the stream, or both; with a parallel
 * residual the MLP reads through the attention's norm. Its MLP is a dense one, or a mixture of experts.
 */
export interface BlockTensors extends Partial<MlpTensors> {
  readonly mixture?: MixtureTensors
  readonly attentionNorm?: NormTensors
  readonly query: Projection
  readonly key: Projection
  readonly value: Projection
  /** Norms on queries and keys before they are rotated: of each head when the size is d, else of all heads together. */
  readonly queryNorm?: NormTensors
  readonly keyNorm?: NormTensors
  readonly delta?: DeltaTensors
  /** A per-head attention-sink logit; it has no value: [H]. */
  readonly sinks?: ShapedTensor
  readonly output: Projection
  readonly attentionOutputNorm?: NormTensors
  readonly mlpNorm?: NormTensors
  readonly mlpOutputNorm?: NormTensors
  /** What the residual is multiplied by, [d, d] stored as rows by columns (sliced models). */
  readonly attentionShortcut?: Projection
  readonly mlpShortcut?: Projection
}

/** How every norm of a model works. `offset` is added to its stored weights, `divisor` is the width that a mean square is taken over. */
export interface NormKind {
  readonly kind: 'rms' | 'layer'
  readonly epsilon: number
  readonly offset?: number
  readonly divisor?: number
}

/**
 * What is left of one block: `width` neurons of the MLP, or of each of its `experts`; 0 when it was removed. `constants` are the numbers of
 * experts that are a vector each.
 */
export interface BlockLayout {
  readonly attention: boolean
  readonly width: number
  readonly experts?: number | undefined
  readonly constants?: readonly number[] | undefined
}

export interface DecoderSpec {
  readonly family: string
  readonly blocks: readonly BlockLayout[]
  readonly hidden: number
  readonly intermediate: number
  readonly heads: number
  readonly keyValueHeads: number
  readonly headSize: number
  readonly vocabulary: number
  readonly contextLength: number
  readonly norm: NormKind
  /** Norms on queries and keys, where they do not work as the others. */
  readonly headNorm?: NormKind
  /** Coordinates of the stream between submodules, where they are fewer than the hidden size (sliced models). */
  readonly sliceWidth?: number
  readonly activation: Activation
  /** Where gates and ups of neurons have limits. */
  readonly neuronLimit?: NeuronLimit
  readonly parallelResidual: boolean
  /** Rotary embedding of block `index`; blocks that share one are given the same object. */
  rotary(index: number): Rotary
  /** How many positions back block `index` sees, itself included; undefined for all. */
  slidingWindow(index: number): number | undefined
  /** Whether query rows are, head by head, d of the query and d of a gate on what the head mixes. */
  readonly gatedQueries?: boolean
  readonly delta?: DeltaShape
  /** Where MLPs are mixtures of experts. */
  readonly router?: RouterKind
  /** Whether the family's files have experts in joint tensors that appear here one by one: rows are inputs, gates and ups in turn. */
  readonly interleavesExperts?: true
  /** What products of queries and keys are multiplied by. */
  readonly scoreScale: number
  /** Scores s become cap * tanh(s / cap). */
  readonly scoreCap?: number
  /** What a submodule's output is multiplied by before it is added to the stream. */
  readonly residualScale?: number
  /** What embeddings are multiplied by. */
  readonly embeddingScale?: number
  /** Zero-shot questions start with the begin token. lm-evaluation-harness 0.4.7 does so for these families only, which do badly without it. */
  readonly questionsBegin?: true
  /** What logits are multiplied by. */
  readonly logitScale?: number
  /** Logits x become cap * tanh(x / cap). */
  readonly logitCap?: number
  readonly embedding: string
  readonly finalNorm: NormTensors
  /** The same tensor as `embedding` when tied. */
  readonly head: { readonly weight: string; readonly bias?: string }
  /** Lists of a config that say something of each block, whether the config spells them out or leaves them to a rule. */
  readonly perBlock?: Readonly<Record<string, readonly unknown[]>>
  /** Tensors of block `index`, under the names of block `name`. */
  block(index: number, name?: number): BlockTensors
}

/** What is left of block `index`. Throws when the model has no such block. */
export function layoutOf(spec: DecoderSpec, index: number): BlockLayout {
  const layout = spec.blocks[index]
  if (!layout) throw new RangeError(`There is no block ${index}: the model has ${spec.blocks.length}.`)
  return layout
}

/** Keys of what a token mixer projects, in that order, and of what else it has. */
export const mixerKeys = ['query', 'key', 'value', 'gate', 'strength', 'rate'] as const
export const mixerOwnKeys = ['convolution', 'decay', 'rateBias', 'readNorm'] as const

/** What a token mixer projects from the stream, in the order of its rows in one matrix. */
export function mixerProjections({ query, key, value, delta }: BlockTensors): Projection[] {
  return [query, key, value, ...(delta ? [delta.gate, delta.strength, delta.rate] : [])]
}

/** Tensors of a token mixer that are neither projections nor norms. */
export function mixerOwn({ delta }: BlockTensors): ShapedTensor[] {
  return delta ? [delta.convolution, delta.decay, delta.rateBias, delta.readNorm] : []
}

/** Whether 16-bit products and the operation on few rows can compute a model: they have no sinks in attention and no limits on neurons. */
export const takesHalves = (spec: DecoderSpec): boolean => !spec.neuronLimit && !spec.blocks.some((_, index) => spec.block(index).sinks)

/** Projections of an MLP under their names here. */
export const mlpProjections = ({ gate, up, down }: MlpTensors): Record<string, Projection> => ({ ...(gate ? { gate } : {}), up, down })

/** The MLP of a block that has a dense one. Throws for a mixture: its caller works on one matrix. */
export function denseMlp({ gate, up, down }: BlockTensors): MlpTensors {
  if (up && down) return { ...(gate ? { gate } : {}), up, down }
  throw hasExperts()
}

/** For what works on one MLP per block. */
export const hasExperts = (): EspalierError =>
  new EspalierError('infeasible', 'This model has mixtures of experts, which this cannot work on. Choose a model without experts.')

/** What expert `place` of a mixture is as a vector. */
export const constantAt = ({ expertsName }: Pick<MixtureTensors, 'expertsName'>, place: number, hidden: number): ConstantTensors => ({
  constant: { weight: `${expertsName}.${place}.approx_value`, shape: [hidden] },
})

/** Whether an expert is a vector: by its names, or by its weights. */
export const isConstant = <Own extends object, Constant extends { readonly constant: unknown }>(
  expert: Own | Constant,
): expert is Constant => 'constant' in expert

/** Everything that a block's MLP has besides norms and a shortcut, under the names that parts are read by. */
export function mlpEntries(tensors: BlockTensors): Record<string, Projection | ShapedTensor> {
  const { mixture } = tensors
  if (!mixture) return mlpProjections(denseMlp(tensors))
  const { router, correction, experts, shared, sharedGate } = mixture
  const named = (prefix: string, entries: Record<string, Projection | ShapedTensor>) =>
    Object.entries(entries).map(([key, entry]) => [`${prefix}.${key}`, entry] as const)
  return Object.fromEntries([
    ['router', router],
    ...(correction ? [['correction', correction] as const] : []),
    ...experts.flatMap((expert, index) =>
      named(`experts.${index}`, isConstant(expert) ? { constant: expert.constant } : mlpProjections(expert)),
    ),
    ...(shared ? named('shared', mlpProjections(shared)) : []),
    ...(sharedGate ? [['sharedGate', sharedGate] as const] : []),
  ])
}
