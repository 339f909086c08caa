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
}

/** Names of one block's tensors. Without `mlpNorm` the MLP reads the attention's norm (parallel residual). */
export interface BlockTensors {
  readonly attentionNorm: NormTensors
  readonly query: Projection
  readonly key: Projection
  readonly value: Projection
  readonly output: Projection
  readonly mlpNorm?: NormTensors
  readonly gate?: Projection
  readonly up: Projection
  readonly down: Projection
  /** What the residual is multiplied by, [d, d] stored as rows by columns (sliced models). */
  readonly attentionShortcut?: Projection
  readonly mlpShortcut?: Projection
}

export type Activation = 'silu' | 'gelu' | 'gelu_tanh' | 'relu'

/** Inverse frequencies for a call whose longest position is `length - 1`, and the factor on cosine and sine. */
export interface RotaryFrequencies {
  readonly inverse: Float64Array
  readonly scale: number
}

export interface Rotary {
  /** Rotated dimensions of each head, at most d and even. */
  readonly size: number
  frequencies(length: number): RotaryFrequencies
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
  readonly norm: { readonly kind: 'rms' | 'layer'; readonly epsilon: number; readonly divisor?: number }
  /** Coordinates of the stream between submodules, where they are fewer than the hidden size (sliced models). */
  readonly sliceWidth?: number
  readonly activation: Activation
  readonly parallelResidual: boolean
  readonly rotary: Rotary
  /** How many positions back block `index` sees, itself included; undefined for all. */
  slidingWindow(index: number): number | undefined
  readonly embedding: string
  readonly finalNorm: NormTensors
  /** The same tensor as `embedding` when tied. */
  readonly head: { readonly weight: string; readonly bias?: string }
  block(index: number): BlockTensors
}

/** What is left of block `index`. Throws when the model has no such block. */
export function layoutOf(spec: DecoderSpec, index: number): BlockLayout {
  const layout = spec.blocks[index]
  if (!layout) throw new RangeError(`There is no block ${index}: the model has ${spec.blocks.length}.`)
  return layout
}

/** Entries of the block's projections, biases included and norms left out. */
export interface BlockParameters {
  readonly attention: number
  readonly mlp: number
  readonly norms: number
}

function projectionParameters(projection: Projection | undefined): number {
  if (!projection) return 0
  return projection.rows * projection.columns + (projection.bias ? projection.rows : 0)
}

/** Parameters of block `index` as the spec describes it, whether or not parts of it were removed. */
export function blockParameters(spec: DecoderSpec, index: number): BlockParameters {
  const tensors = spec.block(index)
  const normSize = (norm: NormTensors | undefined) => (norm ? (norm.size ?? spec.hidden) * (norm.bias ? 2 : 1) : 0)
  const sum = (projections: (Projection | undefined)[]) => projections.reduce((total, part) => total + projectionParameters(part), 0)
  return {
    attention: sum([tensors.query, tensors.key, tensors.value, tensors.output, tensors.attentionShortcut]),
    mlp: sum([tensors.gate, tensors.up, tensors.down, tensors.mlpShortcut]),
    norms: normSize(tensors.attentionNorm) + normSize(tensors.mlpNorm),
  }
}

/** Parameters of the whole block stack, norms included: the base of every sparsity. Counts what is present. */
export function stackParameters(spec: DecoderSpec): number {
  return spec.blocks.reduce((total, layout, index) => {
    const parts = blockParameters(spec, index)
    return total + (layout.attention ? parts.attention : 0) + (layout.width > 0 ? parts.mlp : 0) + parts.norms
  }, 0)
}
