import { add, matMul, mul, type Tensor, type Tensor1D, type Tensor2D } from '@tensorflow/tfjs-core'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { type NormGradients, type NormWeights, normalize } from '#engine/tensor/norm.ts'
import type { Matrix } from '#engine/tensor/products.ts'
import type { RotaryTables } from '#engine/tensor/rotary.ts'
import { type AttentionWeights, blockOf, isAttention, type MixtureWeights, type MlpWeights, type Part } from '../weights/weights.ts'
import type { Past } from './attention/cache.ts'

/** The residual stream at a part's input, [B*T, D]. `source` is the block's input, which a parallel MLP reads. */
export interface Residual {
  readonly x: Tensor2D
  readonly source: Tensor2D
}

/** What all parts share in one call of the decoder. */
export interface CallContext {
  readonly spec: DecoderSpec
  /** The call has B samples of T tokens each. With a past, it has one sample with all rows. */
  readonly batch: number
  readonly tokens: number
  readonly rotary: (block: number) => RotaryTables
  /** The sequences and positions of the rows, for sequences that may have begun in earlier calls. */
  readonly past?: Past
  /** Receives what the part reads and writes. The tensors are valid during the call only. */
  readonly observe?: (seen: PartActivations) => void
  /** Receives sums of an MLP's neurons over each sample. They are valid during the call only. */
  readonly sumNeurons?: (sums: NeuronSums) => void
  /** Which experts of a mixture run, if it is only observed. Default: all. */
  readonly only?: ((expert: number) => boolean) | undefined
}

/** Returns sums of each neuron's magnitudes or squares over the positions of each sample: [B, I], row by row. */
export type NeuronSums = (of: 'magnitudes' | 'squares') => ArrayLike<number>

/** The inputs and outputs of a part's projections, which is all that is needed to fit them. */
export interface PartActivations {
  /** The input of the first projections: the stream after the norm, [B*T, D]. */
  readonly input: Tensor2D
  /**
   * The input of the last projection: mixed heads [B*T, H d], or neurons [B*T, I]. A mixture has one per expert, so reading this throws.
   */
  readonly inner: Tensor2D
  /** For a mixture: the activations of each chosen expert. Experts that are read one by one are shown in one call each, with `more` set. */
  readonly experts?: readonly ExpertActivations[]
  readonly more?: boolean
  /** The part's output, [B*T, D], before its output norm; absent if the part was only computed up to its last projection. */
  readonly output?: Tensor2D
}

/** One expert's activations in a pass, for the tokens that chose it. */
export interface ExpertActivations {
  readonly expert: number
  /** The rows of the part's input that chose it, ascending, and the factors on its output for them. */
  readonly rows: Int32Array
  readonly gates: Float32Array
  /** Its input [n, D], its neurons [n, I], and its output [n, D] before the factors. A constant has only an output. */
  readonly input?: Tensor2D
  readonly inner?: Tensor2D
  readonly output: Tensor2D
}

/** Adds a part's output to the stream, after the part's output norm, scale and shortcut for the stream, if it has them. */
export function addTo(
  residual: Tensor2D,
  output: Tensor2D,
  { outputNorm, shortcut }: AttentionWeights<Matrix> | MlpWeights<Matrix> | MixtureWeights<Matrix>,
  { residualScale }: DecoderSpec,
): Tensor2D {
  const added = normalizeIf(output, outputNorm)
  return add(shortcut ? matMul(residual, shortcut) : residual, residualScale === undefined ? added : mul(added, residualScale))
}

export const normalizeIf = (x: Tensor2D, norm: NormWeights | undefined): Tensor2D => (norm ? normalize(x, norm) : x)

type Input = Pick<PartActivations, 'input'>

/** The input of a part. With `later`, it is computed only when it is read, because the first products apply the norm themselves. */
export function inputOf(x: Tensor2D, { norm }: AttentionWeights<Matrix> | MlpWeights<Matrix>, later: boolean): Input {
  if (!later) return { input: normalizeIf(x, norm) }
  return {
    get input() {
      return normalizeIf(x, norm)
    },
  }
}

export const withInner = (input: Input, inner: Tensor2D): PartActivations => Object.assign(input, { inner })

/** Makes the residual stream after a part from `x`, which it takes over. Disposes of the stream before the part. */
export function advance(part: Part, before: Residual, x: Tensor2D, spec: DecoderSpec): Residual {
  // A parallel MLP still reads the block's input. If the MLP was removed, the next block begins, with its own input.
  const mlpFollows = isAttention(part) && layoutOf(spec, blockOf(part)).width > 0
  const source = spec.parallelResidual && mlpFollows ? before.source.clone() : x.clone()
  disposeResidual(before)
  return { x, source }
}

export const cloneResidual = ({ x, source }: Residual): Residual => ({ x: x.clone(), source: source.clone() })

export function disposeResidual(residual: Residual): void {
  residual.x.dispose()
  residual.source.dispose()
}

/** The gradients of the tensors of a part, under the keys of `partNames`. Keys of biases end in `Bias`. */
export type Gradients = Readonly<Record<string, Tensor>>

/**
 * Returns the gradients of a norm under its key. That of the weights is multiplied by `scale`, because the norm computes with its stored
 * weights times `scale`.
 */
export function normGradients(key: string, norm: NormWeights | undefined, found: NormGradients | undefined, scale = 1): Gradients {
  if (!norm || !found) return {}
  return {
    ...(norm.weight ? { [key]: scale === 1 ? found.weight : mul<Tensor1D>(found.weight, scale) } : {}),
    ...(norm.bias ? { [`${key}Bias`]: found.bias } : {}),
  }
}
