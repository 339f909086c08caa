import type { Activation } from '#engine/tensor/activation.ts'
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

/** Heads of a Gated DeltaNet; each key head serves as many consecutive value heads. */
export interface DeltaShape {
  readonly keyHeads: number
  readonly valueHeads: number
  readonly keySize: number
  readonly valueSize: number
}

/**
 * Names of one block's tensors. With `delta` its token mixer is a Gated DeltaNet, which replaces attention. A submodule may have a norm on what it reads, one on what it adds to the stream, or both; with a parallel
 * residual the MLP reads through the attention's norm.
 */
export interface BlockTensors {
  readonly attentionNorm?: NormTensors
  readonly query: Projection
  readonly key: Projection
  readonly value: Projection
  /** Norms on queries and keys before they are rotated: of each head when the size is d, else of all heads together. */
  readonly queryNorm?: NormTensors
  readonly keyNorm?: NormTensors
  readonly delta?: DeltaTensors
  readonly output: Projection
  readonly attentionOutputNorm?: NormTensors
  readonly mlpNorm?: NormTensors
  readonly gate?: Projection
  readonly up: Projection
  readonly down: Projection
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

/** What is left of one block: `width` neurons of the MLP, 0 when it was removed. */
export interface BlockLayout {
  readonly attention: boolean
  readonly width: number
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
  readonly parallelResidual: boolean
  /** Rotary embedding of block `index`; blocks that share one are given the same object. */
  rotary(index: number): Rotary
  /** How many positions back block `index` sees, itself included; undefined for all. */
  slidingWindow(index: number): number | undefined
  /** Whether query rows are, head by head, d of the query and d of a gate on what the head mixes. */
  readonly gatedQueries?: boolean
  readonly delta?: DeltaShape
  /** What products of queries and keys are multiplied by. */
  readonly scoreScale: number
  /** Scores s become cap * tanh(s / cap). */
  readonly scoreCap?: number
  /** What a submodule's output is multiplied by before it is added to the stream. */
  readonly residualScale?: number
  /** What embeddings are multiplied by. */
  readonly embeddingScale?: number
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

/**
 * Entries of a block's submodules: projections, biases, norms on queries and keys, and norms on what is added to the stream. The norms
 * in front are apart, because Eq. 5 of 2SSP counts without them.
 */
interface BlockParameters {
  readonly attention: number
  readonly attentionNorm: number
  readonly mlp: number
  readonly mlpNorm: number
}

function projectionParameters(projection: Projection | undefined): number {
  if (!projection) return 0
  return projection.rows * projection.columns + (projection.bias ? projection.rows : 0)
}

/** What a token mixer projects from the stream, in the order of its rows in one matrix. */
export function mixerProjections({ query, key, value, delta }: BlockTensors): Projection[] {
  return [query, key, value, ...(delta ? [delta.gate, delta.strength, delta.rate] : [])]
}

/** Tensors of a DeltaNet that are no projections. */
export function deltaOwn({ delta }: BlockTensors): ShapedTensor[] {
  return delta ? [delta.convolution, delta.decay, delta.rateBias, delta.readNorm] : []
}

/** Entries of a token mixer besides its projections. */
function mixerExtras(spec: DecoderSpec, tensors: BlockTensors): number {
  const heads = normParameters(spec, tensors.queryNorm) + normParameters(spec, tensors.keyNorm)
  return deltaOwn(tensors).reduce((total, { shape }) => total + shape.reduce((a, b) => a * b, 1), heads)
}

/** Parameters of a norm; 0 for a missing one. */
export function normParameters(spec: DecoderSpec, norm: NormTensors | undefined): number {
  return norm && !norm.ones ? (norm.size ?? spec.hidden) * (norm.bias ? 2 : 1) : 0
}

/** Parameters of block `index` as the spec describes it, whether or not parts of it were removed. */
export function blockParameters(spec: DecoderSpec, index: number): BlockParameters {
  const tensors = spec.block(index)
  const sum = (projections: (Projection | undefined)[]) => projections.reduce((total, part) => total + projectionParameters(part), 0)
  const { output, attentionNorm, attentionOutputNorm, mlpNorm, mlpOutputNorm } = tensors
  return {
    attention:
      sum([...mixerProjections(tensors), output, tensors.attentionShortcut]) +
      mixerExtras(spec, tensors) +
      normParameters(spec, attentionOutputNorm),
    attentionNorm: normParameters(spec, attentionNorm),
    mlp: sum([tensors.gate, tensors.up, tensors.down, tensors.mlpShortcut]) + normParameters(spec, mlpOutputNorm),
    mlpNorm: normParameters(spec, mlpNorm),
  }
}

/** Parameters that block `index` has. A norm goes with the submodules that read through it: with a parallel residual these are both. */
export function presentParameters(spec: DecoderSpec, index: number): Record<'attention' | 'mlp' | 'all', number> {
  const { attention, width } = layoutOf(spec, index)
  const parts = blockParameters(spec, index)
  const shared = spec.parallelResidual && !attention ? parts.attentionNorm : 0
  const own = attention ? parts.attention + parts.attentionNorm : 0
  const mlp = width > 0 ? parts.mlp + parts.mlpNorm + shared : 0
  return { attention: own, mlp, all: own + mlp }
}

/**
 * Parameters of the whole block stack, the base of every sparsity. This is the one count of a model, of what a plan leaves and of a
 * folder in the exact format; formats that hold zeros where something was removed weigh more and say so.
 */
export function stackParameters(spec: DecoderSpec): number {
  return spec.blocks.reduce((total, _, index) => total + presentParameters(spec, index).all, 0)
}
