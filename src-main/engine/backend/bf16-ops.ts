import type { Tensor, Tensor1D, Tensor2D, Tensor3D } from '@tensorflow/tfjs-core'
import type { OperationInputs, OperationName } from './native-inputs.ts'

/** The number of each activation function in our operations. */
export const activations = { silu: 0, gelu: 1, gelu_tanh: 2, relu: 3 } as const

/** A norm of rows, without its weights. */
export interface FusedNorm {
  readonly epsilon: number
  readonly divisor: number
  readonly centred: boolean
}

/** The 16-bit types in which runtimes multiply and weights are stored. */
export type SixteenBitType = 'bfloat16' | 'float16'

/** What multiplies 16-bit operands: units of this processor, through our operations, or a runtime's own products. */
export type Bf16Units = 'AVX-512 BF16' | 'AMX' | `TensorFlow ${SixteenBitType}` | `ggml ${SixteenBitType}`

/** A runtime's own products of 16-bit operands. Operands and results are float32, except packed weights. */
export interface RuntimeProducts {
  readonly units: Bf16Units
  /** Rounds a weight to 16 bits. The result's shape only tells how much memory it uses, and operations on float32 refuse it. */
  pack(weight: Tensor2D): Tensor
  /** Multiplies rows [N, D] by a packed weight [R, D]. Returns [N, R]; `shape` is that shape. */
  multiply(rows: Tensor2D, weight: Tensor, shape: [number, number]): Tensor2D
  /**
   * Multiplies G pairs of matrices, a [G, M, C] and b [G, C, N] (or [G, N, C] with `transposeB`). Returns [G, M, N]. Attention is computed
   * in float32 if a runtime lacks this.
   */
  multiplyBatch?(a: Tensor3D, b: Tensor3D, transposeB: boolean): Tensor3D
}

/**
 * How many 16-bit parts a product splits each float32 number of its rows into. One part is the rounded number, two also hold what rounding
 * removed, and three hold all its bits.
 */
export type RowParts = 1 | 2 | 3

/** What the first `rows` rows of a weight were multiplied by after it was read. */
export interface RowFactor {
  readonly rows: number
  readonly by: number
}

/**
 * A stored weight [rows, columns] in 16 bits. For rows in two parts, it also holds what rounding removed, unless all its entries are
 * bfloat16 numbers. For rows in three parts, all its entries must be bfloat16 numbers.
 */
export interface PackedMatrix {
  /** The values as packed: tiles of `native/bf16/bf16-tiles.h`, or a 16-bit value of the runtime. */
  readonly values: Tensor
  readonly rows: number
  readonly columns: number
  readonly parts: RowParts
  /** The factor that the values were divided by. Products multiply by it. */
  readonly factor?: RowFactor | undefined
}

/** A norm before a product, with its weights. */
export type NormBefore = FusedNorm & { readonly weight?: Tensor | undefined; readonly bias?: Tensor | undefined }

export interface ProductOptions {
  readonly norm?: NormBefore | undefined
  readonly bias?: Tensor1D | undefined
  /** The result is multiplied by `scale` and added to this, [N, rows]. */
  readonly add?: Tensor2D | undefined
  readonly scale?: number | undefined
}

/** Neurons of an MLP, from the stream to the result of their activation. */
export interface PackedNeurons {
  readonly norm?: NormBefore | undefined
  readonly activation: keyof typeof activations
  readonly gate?: PackedMatrix | undefined
  readonly gateBias?: Tensor1D | undefined
  readonly up: PackedMatrix
  readonly upBias?: Tensor1D | undefined
}

export interface PackedMlp extends PackedNeurons {
  readonly scale: number
  readonly down: PackedMatrix
  readonly downBias?: Tensor1D | undefined
}

/** Operations whose products have 16-bit operands and float32 sums. Everything between the products is float32. */
export interface Bf16Ops {
  readonly units: Bf16Units
  /**
   * Whether all entries of a weight are bfloat16 numbers once they are divided by its factor, so that products with rows in three parts lose
   * nothing.
   */
  isExact(weight: Tensor2D, factor?: RowFactor): boolean
  /**
   * Packs a weight [rows, columns] for products, divided by its factor if one is given. With `transposed`, the weight is given transposed,
   * [columns, rows], and without a factor.
   */
  pack(weight: Tensor2D, parts: RowParts, transposed?: boolean, factor?: RowFactor): PackedMatrix
  /** Multiplies x [N, columns] by a packed weight. Returns [N, rows]. */
  product(x: Tensor2D, weight: PackedMatrix, more?: ProductOptions): Tensor2D
  /** The product a'b [R, C] of a [N, R] and b [N, C]. */
  correlate(a: Tensor2D, b: Tensor2D): Tensor2D
  /** Runs a whole MLP on source [N, D], for any number of rows, and adds its output to x [N, D]. */
  mlp(x: Tensor2D, source: Tensor2D, part: PackedMlp): Tensor2D
  /** The neurons of an MLP on source [N, D]: [N, I]. */
  neurons(source: Tensor2D, part: PackedNeurons): Tensor2D
  /**
   * Computes the logits l of hidden states x [N, D] without storing them. For each row, returns a number m near the largest logit and the
   * sum of e^(l - m): [N, 2].
   */
  exponents(x: Tensor2D, head: PackedMatrix, bias: Tensor1D | undefined, cap: number | undefined): Tensor2D
}

/** The same operations by our own code on a processor's units, and some more. */
export interface NativeBf16Ops extends Bf16Ops {
  /** The number by which our operations know these units. */
  readonly number: number
  /** The same operations on other units of this processor: 1 up to the number of its best units. */
  on(number: number): NativeBf16Ops
  /** Like `mlp`, but also returns what `mlpBackward` needs of the neurons, in a form of its own. */
  keptMlp(x: Tensor2D, source: Tensor2D, part: PackedMlp): [Tensor2D, Tensor]
  /**
   * Like `mlp`, but also returns sums of the neurons' magnitudes and squares over each sample: [2, B, I]. `tokens`, the rows of a sample,
   * must be a multiple of 32.
   */
  summedMlp(x: Tensor2D, source: Tensor2D, part: PackedMlp, tokens: number): [Tensor2D, Tensor3D]
  /**
   * Gradients of an MLP with a norm before it, given the gradient with respect to its output [N, D]. They are with respect to source
   * [N, D], the norm's weight, the norm's bias, `down`, `active` and `other` (which has no rows if there is no gate).
   */
  mlpBackward(
    gradient: Tensor2D,
    source: Tensor2D,
    kept: Tensor,
    part: TransposedMlp,
  ): [Tensor2D, Tensor1D, Tensor1D, Tensor2D, Tensor2D, Tensor2D]
  /** Like the fused `attention`, but both of its products have 16-bit operands, split in two parts if `split` is set. */
  attention(projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, shape: AttentionShape, split: boolean): Tensor2D
  /** Like the fused `attentionBackward`, but its products have bfloat16 operands. */
  attentionBackward(projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, shape: AttentionShape, gradient: Tensor2D): Tensor2D
  /**
   * Compares the final states of a model with those of the dense model, [N, D] each, without storing logits. Returns each row's divergence
   * from the dense distribution over the vocabulary, [N], and, if `scale` is given, the gradient of `scale` times the sum of divergences
   * with respect to `own`, [N, D].
   */
  divergence(own: Tensor2D, dense: Tensor2D, head: TwoWayHead, scale: number | undefined): [Tensor1D, Tensor2D]
}

/** Weights of an MLP, packed transposed. The neurons are activation(`active` x) * (`other` x), or activation(`active` x) without a gate. */
interface TransposedMlp {
  readonly norm: NormBefore
  readonly activation: keyof typeof activations
  readonly down: PackedMatrix
  readonly active: PackedMatrix
  readonly other?: PackedMatrix | undefined
}

/** A packed head [V, D], also packed transposed, with the bias and the cap of its logits. */
interface TwoWayHead {
  readonly packed: PackedMatrix
  readonly transposed: PackedMatrix
  readonly bias?: Tensor1D | undefined
  readonly cap?: number | undefined
}

/** Numbers of heads; `window` is how many positions a query sees (0: all), and `cap` limits scores (0: no cap). */
export interface AttentionShape {
  readonly heads: number
  readonly keyValueHeads: number
  readonly window: number
  readonly cap?: number | undefined
}

/** The integer attributes of attention operations. */
export const attentionInts = ({ heads, keyValueHeads, window }: AttentionShape) => ({ heads, key_value_heads: keyValueHeads, window })

/** Runs an operation by its name, with integer and floating-point attributes and tensors. */
export interface NativeRunner {
  run<Name extends OperationName>(
    name: Name,
    ints: Record<string, number | boolean>,
    floats: Record<string, number>,
    inputs: OperationInputs<Name>,
    outputs?: number,
  ): Tensor[]
}

/** Attributes of operations that take a weight with such a factor. */
export const factorInts = (factor: RowFactor | undefined) => ({ factored: factor?.rows ?? 0 })
export const factorFloats = (factor: RowFactor | undefined) => ({ factor: factor?.by ?? 1 })

const units = ['AVX-512 BF16', 'AMX'] as const

/** The operations on units number 1 or 2. Undefined for number 0, which means that the processor has no units. */
export function nativeBf16Ops(runner: NativeRunner, number: number): NativeBf16Ops | undefined {
  const title = units[number - 1]
  if (!title) return undefined
  const run = <Name extends OperationName>(...call: Parameters<typeof runner.run<Name>>) => runner.run<Name>(...call)[0] as Tensor
  const normInts = (norm: NormBefore | undefined) => ({
    normed: norm !== undefined,
    centred: norm?.centred ?? false,
    weighted: norm?.weight !== undefined,
    shifted: norm?.bias !== undefined,
  })
  const normFloats = (norm: NormBefore | undefined) => ({ epsilon: norm?.epsilon ?? 0, divisor: norm?.divisor ?? 1 })
  const neuronInts = ({ norm, activation, gate, gateBias, up, upBias }: PackedNeurons) => ({
    units: number,
    parts: up.parts,
    activation: activations[activation],
    neurons: up.rows,
    gated: gate !== undefined,
    gate_biased: gateBias !== undefined,
    up_biased: upBias !== undefined,
    ...normInts(norm),
  })
  // TensorFlow requires every input of an operation. For an input that does not apply, any tensor is passed; the operation ignores it.
  const neuronInputs = ({ norm, gate, gateBias, up, upBias }: PackedNeurons, any: Tensor) => ({
    normWeight: norm?.weight ?? any,
    normBias: norm?.bias ?? any,
    gate: (gate ?? up).values,
    gateBias: gateBias ?? any,
    up: up.values,
    upBias: upBias ?? any,
  })
  const mlpCall = (x: Tensor2D, source: Tensor2D, part: PackedMlp) => {
    const { norm, scale, down, downBias } = part
    const ints = { ...neuronInts(part), down_biased: downBias !== undefined }
    const inputs = { x, source, ...neuronInputs(part, source), down: down.values, downBias: downBias ?? x }
    return [ints, { ...normFloats(norm), scale }, inputs] as const
  }
  return {
    units: title,
    number,
    on: (other) => nativeBf16Ops(runner, other) as NativeBf16Ops,
    isExact(weight, factor) {
      const exact = run('EspalierExact', factorInts(factor), factorFloats(factor), { weight })
      const [holds] = exact.dataSync()
      exact.dispose()
      return holds === 1
    },
    pack: (weight, parts, transposed = false, factor) => ({
      values: run('EspalierPack', { split: parts === 2, transposed, ...factorInts(factor) }, factorFloats(factor), { weight }),
      rows: weight.shape[transposed ? 1 : 0],
      columns: weight.shape[transposed ? 0 : 1],
      parts,
      factor,
    }),
    correlate: (a, b) => run('EspalierBf16Correlation', { units: number }, {}, { a, b }) as Tensor2D,
    attentionBackward(projected, cosine, sine, shape, gradient) {
      const ints = { ...attentionInts(shape), units: number }
      return run('EspalierAttentionBackward', ints, { cap: shape.cap ?? 0 }, { projected, cosine, sine, gradient }) as Tensor2D
    },
    divergence(own, dense, { packed, transposed, bias, cap }, scale) {
      const ints = { units: number, columns: packed.rows, biased: bias !== undefined, graded: scale !== undefined }
      const inputs = { own, dense, head: packed.values, transposed: transposed.values, bias: bias ?? own }
      return runner.run('EspalierBf16Divergence', ints, { cap: cap ?? 0, scale: scale ?? 0 }, inputs, 2) as [Tensor1D, Tensor2D]
    },
    product(x, weight, { norm, bias, add, scale = 1 } = {}) {
      const ints = {
        units: number,
        parts: weight.parts,
        columns: weight.rows,
        biased: bias !== undefined,
        adds: add !== undefined,
        ...normInts(norm),
        ...factorInts(weight.factor),
      }
      const operands = { weight: weight.values, bias: bias ?? x, add: add ?? x }
      const inputs = { x, normWeight: norm?.weight ?? x, normBias: norm?.bias ?? x, ...operands }
      return run('EspalierBf16Product', ints, { ...normFloats(norm), scale, ...factorFloats(weight.factor) }, inputs) as Tensor2D
    },
    mlp: (x, source, part) => run('EspalierBf16Mlp', ...mlpCall(x, source, part)) as Tensor2D,
    keptMlp: (x, source, part) => runner.run('EspalierKeptBf16Mlp', ...mlpCall(x, source, part), 2) as [Tensor2D, Tensor],
    summedMlp(x, source, part, tokens) {
      const [ints, floats, inputs] = mlpCall(x, source, part)
      return runner.run('EspalierSummedBf16Mlp', { ...ints, tokens }, floats, inputs, 2) as [Tensor2D, Tensor3D]
    },
    mlpBackward(gradient, source, kept, { norm, activation, down, active, other }) {
      const { centred, weighted } = normInts(norm)
      const ofMlp = { activation: activations[activation], neurons: active.columns, gated: other !== undefined }
      const ints = { centred, weighted, units: number, ...ofMlp }
      const weights = { down: down.values, active: active.values, other: (other ?? active).values }
      const inputs = { gradient, source, normWeight: norm.weight ?? source, kept, ...weights }
      return runner.run('EspalierBf16MlpBackward', ints, normFloats(norm), inputs, 6) as ReturnType<NativeBf16Ops['mlpBackward']>
    },
    neurons: (source, part) =>
      run(
        'EspalierBf16Neurons',
        neuronInts(part),
        { ...normFloats(part.norm), scale: 1 },
        { source, ...neuronInputs(part, source) },
      ) as Tensor2D,
    attention(projected, cosine, sine, shape, split) {
      const ints = { ...attentionInts(shape), units: number, split }
      return run('EspalierAttention', ints, { cap: shape.cap ?? 0 }, { projected, cosine, sine }) as Tensor2D
    },
    exponents(x, head, bias, cap) {
      const ints = { units: number, parts: head.parts, columns: head.rows, biased: bias !== undefined }
      return run('EspalierBf16Exponents', ints, { cap: cap ?? 0 }, { x, head: head.values, bias: bias ?? x }) as Tensor2D
    },
  }
}
