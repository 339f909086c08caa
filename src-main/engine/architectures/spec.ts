import { EspalierError } from '#contract/errors.ts'
import type { Activation, NeuronLimit } from '#engine/tensor/activation.ts'
import type { Rotary } from '#engine/tensor/rotary.ts'

/**
 * The description of a decoder, read from a family's table and the checkpoint's config. Sizes follow the shape legend of engine/tensor: D
 * hidden, I intermediate, H heads, K key/value heads, d head size, L blocks, V vocabulary.
 */

/** Rows [firstRow, firstRow + rows) of a stored weight [rows, columns], with the same rows of its bias if it has one. */
export interface Projection {
  readonly weight: string
  readonly firstRow: number
  readonly rows: number
  readonly columns: number
  readonly bias?: string
  /** Shape of the stored tensor, if it has more dimensions. Rows are counted through all except the last. */
  readonly shape?: readonly number[]
}

export interface NormTensors {
  readonly weight: string
  readonly bias?: string
  /** Number of entries, if this is not the hidden size. */
  readonly size?: number
  /** Set if the norm's weights were multiplied into the next projections. The file then has ones, which do not count as parameters. */
  readonly ones?: true
}

/** A stored tensor that is neither projection nor norm. */
export interface ShapedTensor {
  readonly weight: string
  readonly shape: readonly number[]
}

/**
 * The tensors of a Gated DeltaNet besides query, key, value and output: the projections to gate, strength and rate, and tensors that
 * attention does not have.
 */
export interface DeltaTensors {
  readonly gate: Projection
  readonly strength: Projection
  readonly rate: Projection
  /** [channels, 1, k]. */
  readonly convolution: ShapedTensor
  /** Logarithm of the rate at which each head forgets, and the offset of the rate: [Hv] each. */
  readonly decay: ShapedTensor
  readonly rateBias: ShapedTensor
  /** The norm on each head's result: [dv]. */
  readonly readNorm: ShapedTensor
}

/** An MLP. Without a gate, a neuron's value is the activation of its `up` alone. */
export interface MlpTensors {
  readonly gate?: Projection
  readonly up: Projection
  readonly down: Projection
}

/** The replacement for a removed expert: a vector [D] that is its output for every token. */
interface ConstantTensors {
  readonly constant: ShapedTensor
}

/** A mixture: several experts, of which a router chooses some for each token. */
export interface MixtureTensors {
  /** [E, D]. Maps the normalised stream to a score per expert. */
  readonly router: Projection
  /** [E]. Added to the scores for choosing experts, but not for weighting them. */
  readonly correction?: ShapedTensor
  readonly experts: readonly (MlpTensors | ConstantTensors)[]
  /** Prefix of the names of one expert's own tensors, before its number. */
  readonly expertsName: string
  /** An MLP that every token uses, times the sigmoid of `sharedGate` [1, D] if there is one. */
  readonly shared?: MlpTensors
  readonly sharedGate?: Projection
}

/** How routers choose, in every mixture of a model. */
export interface RouterKind {
  /** Number of experts that a token uses. */
  readonly chosen: number
  /** How logits become weights: a softmax over all experts, or a sigmoid of each expert's logit. */
  readonly scores: 'softmax' | 'sigmoid'
  /** Whether the weights of the chosen experts are divided by their sum. */
  readonly renormalised: boolean
  /** Factor on the weights. */
  readonly scale?: number
  /** The experts of a mixture form `count` groups. A token chooses experts only from its `open` best groups. */
  readonly groups?: { readonly count: number; readonly open: number }
  /** The config's keys for the number of experts, with the key to write first. */
  readonly countKeys: readonly string[]
  /** The config's key for an expert's width. */
  readonly widthKey: string
}

/** Heads of a Gated DeltaNet. Each key head serves the same number of consecutive value heads. */
export interface DeltaShape {
  readonly keyHeads: number
  readonly valueHeads: number
  readonly keySize: number
  readonly valueSize: number
}

/**
 * Names of one block's tensors. With `delta`, the block has a Gated DeltaNet instead of attention. A submodule may have a norm on its
 * input, on its output, or both. With a parallel residual, the MLP uses the attention's norm. The MLP is dense, or a mixture of experts.
 */
export interface BlockTensors extends Partial<MlpTensors> {
  readonly mixture?: MixtureTensors
  readonly attentionNorm?: NormTensors
  readonly query: Projection
  readonly key: Projection
  readonly value: Projection
  /** Norms on queries and keys before rotation: over each head if the size is d, else over all heads together. */
  readonly queryNorm?: NormTensors
  readonly keyNorm?: NormTensors
  readonly delta?: DeltaTensors
  /** [H]. One attention-sink logit per head: it takes part in the softmax, but has no value. */
  readonly sinks?: ShapedTensor
  readonly output: Projection
  readonly attentionOutputNorm?: NormTensors
  readonly mlpNorm?: NormTensors
  readonly mlpOutputNorm?: NormTensors
  /** The matrix that maps the residual to the basis of the next submodule, stored as rows by columns (sliced models). */
  readonly attentionShortcut?: Projection
  readonly mlpShortcut?: Projection
}

/**
 * How all norms of a model work. `offset` is added to the stored weights; A mean square is the sum of squares divided by `divisor`
 * (default: the width).
 */
export interface NormKind {
  readonly kind: 'rms' | 'layer'
  readonly epsilon: number
  readonly offset?: number
  readonly divisor?: number
}

/**
 * The remaining parts of one block. `width` is the number of neurons of the MLP or of each of its `experts`, 0 if the MLP was removed.
 * `constants` lists the experts that became vectors.
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
  /** How norms on queries and keys work, if they differ from the other norms. */
  readonly headNorm?: NormKind
  /** Width of the stream between submodules, if smaller than the hidden size (sliced models). */
  readonly sliceWidth?: number
  readonly activation: Activation
  /** Limits on the gates and ups of neurons, if there are any. */
  readonly neuronLimit?: NeuronLimit
  readonly parallelResidual: boolean
  /** Rotary embedding of block `index`. Blocks that share one get the same object. */
  rotary(index: number): Rotary
  /** How many positions a token in block `index` attends to, including its own; undefined for all. */
  slidingWindow(index: number): number | undefined
  /** Whether the query projection has 2d rows per head: d for the query, then d for a gate on the head's output. */
  readonly gatedQueries?: boolean
  readonly delta?: DeltaShape
  /** Set if MLPs are mixtures of experts. */
  readonly router?: RouterKind
  /**
   * Whether the family's files have one tensor for all experts, whose rows are inputs and in which gates and ups alternate. This spec
   * describes the experts as separate tensors.
   */
  readonly interleavesExperts?: true
  /** Factor on products of queries and keys. */
  readonly scoreScale: number
  /** Queries, keys and values are clamped to this distance from 0 after their norms, before rotation (`clip_qkv`). */
  readonly projectionLimit?: number
  /** Scores s become cap * tanh(s / cap). */
  readonly scoreCap?: number
  /** Factor on a submodule's output before it is added to the stream. */
  readonly residualScale?: number
  /** Factor on embeddings. */
  readonly embeddingScale?: number
  /**
   * Whether zero-shot questions start with the begin token. lm-evaluation-harness 0.4.7 adds it only for these families, which score badly
   * without it.
   */
  readonly questionsBegin?: true
  /** Factor on logits. */
  readonly logitScale?: number
  /** Logits x become cap * tanh(x / cap). */
  readonly logitCap?: number
  readonly embedding: string
  readonly finalNorm: NormTensors
  /** The same tensor as `embedding` when tied. */
  readonly head: { readonly weight: string; readonly bias?: string }
  /** Config lists with an entry per block, whether the config spells them out or leaves them to a rule. */
  readonly perBlock?: Readonly<Record<string, readonly unknown[]>>
  /** Tensors of block `index`, under the names of block `name`. */
  block(index: number, name?: number): BlockTensors
}

/** The remaining parts of block `index`. Throws if the model has no such block. */
export function layoutOf(spec: DecoderSpec, index: number): BlockLayout {
  const layout = spec.blocks[index]
  if (!layout) throw new RangeError(`There is no block ${index}: the model has ${spec.blocks.length}.`)
  return layout
}

/** Keys of a token mixer's projections, in the order of their rows, and of its other tensors. */
export const mixerKeys = ['query', 'key', 'value', 'gate', 'strength', 'rate'] as const
export const mixerOwnKeys = ['convolution', 'decay', 'rateBias', 'readNorm'] as const

/** A token mixer's projections from the stream, in the order of their rows in one matrix. */
export function mixerProjections({ query, key, value, delta }: BlockTensors): Projection[] {
  return [query, key, value, ...(delta ? [delta.gate, delta.strength, delta.rate] : [])]
}

/** Tensors of a token mixer that are neither projections nor norms. */
export function mixerOwn({ delta }: BlockTensors): ShapedTensor[] {
  return delta ? [delta.convolution, delta.decay, delta.rateBias, delta.readNorm] : []
}

/**
 * Whether a model can be computed with 16-bit products and with the operation for few rows. These support neither attention sinks nor
 * limits on neurons.
 */
export const takesBf16 = (spec: DecoderSpec): boolean => !spec.neuronLimit && !spec.blocks.some((_, index) => spec.block(index).sinks)

/** Projections of an MLP under the spec's names. */
export const mlpProjections = ({ gate, up, down }: MlpTensors): Record<string, Projection> => ({ ...(gate ? { gate } : {}), up, down })

/** The dense MLP of a block. Throws for a mixture, because the caller needs a single MLP. */
export function denseMlp({ gate, up, down }: BlockTensors): MlpTensors {
  if (up && down) return { ...(gate ? { gate } : {}), up, down }
  throw hasExperts()
}

/** The error for code that needs one MLP per block. */
export const hasExperts = (): EspalierError =>
  new EspalierError('infeasible', 'This model has mixtures of experts, which are not supported here. Choose a model without experts.')

/** The tensor name of expert `place` of a mixture, if the expert is a vector. */
export const constantAt = ({ expertsName }: Pick<MixtureTensors, 'expertsName'>, place: number, hidden: number): ConstantTensors => ({
  constant: { weight: `${expertsName}.${place}.approx_value`, shape: [hidden] },
})

/** Whether an expert is a vector. Takes its tensor names or its weights. */
export const isConstant = <Own extends object, Constant extends { readonly constant: unknown }>(
  expert: Own | Constant,
): expert is Constant => 'constant' in expert

/** All tensors of a block's MLP except norms and the shortcut, by the keys under which the MLP is loaded. */
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

/** A record without the entries that are undefined. */
export function defined<T extends object>(values: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [Key in keyof T]?: Exclude<T[Key], undefined>
  }
}

/** Names of the decoder's tensors in a checkpoint: their prefix, and the name of the head. */
export interface Place {
  readonly prefix: string
  readonly head: string
}

export const usualPlace: Place = { prefix: 'model.', head: 'lm_head.weight' }

/** The prefixes of a language model that is one part of several, in different versions of transformers. */
const places: readonly Place[] = [
  { prefix: 'language_model.model.', head: 'language_model.lm_head.weight' },
  { prefix: 'model.language_model.', head: 'lm_head.weight' },
  usualPlace,
]

/** Finds the place that a checkpoint uses. Returns the last place if none fits, so that an error names its tensors. */
export function findPlace(stored: (name: string) => boolean): Place {
  return places.find(({ prefix }) => stored(`${prefix}embed_tokens.weight`)) ?? usualPlace
}

// Entries in the config of a model of several parts that apply to all parts.
const shared = ['tie_word_embeddings', 'bos_token_id', 'eos_token_id', 'pad_token_id', 'dtype', 'torch_dtype', 'transformers_version']

/** The config of a language model that is one part of several, in the form of a model by itself. Missing entries are taken from `usual`. */
export function textConfigOf(config: Record<string, unknown>, usual: Record<string, unknown>): Record<string, unknown> {
  const common = Object.fromEntries(shared.filter((key) => config[key] !== undefined).map((key) => [key, config[key]]))
  return { ...usual, ...common, ...(config.text_config as Record<string, unknown>) }
}
