import { type Tensor, type Tensor1D, type Tensor2D, type Tensor3D, tensor1d, tensor2d } from '@tensorflow/tfjs-core'
import { fusedName } from '#runtime/places.mjs'
import { trustedAddon } from '#runtime/trusted.mjs'
import {
  type AttentionShape,
  activations,
  attentionInts,
  type FusedNorm,
  factorFloats,
  factorInts,
  type NativeBf16Ops,
  nativeBf16Ops,
  type RowFactor,
} from './bf16-ops.ts'
import { inOrder, type OperationInputs, type OperationName, stepNumbers, stepWords } from './native-inputs.ts'

/** Operations of `native/`. Each makes one pass over memory where the runtime's own operations would make several. */
export interface FusedOperations {
  readonly arrays: ArrayFunctions
  /**
   * Rotary embedding and causal attention in one operation, without storing a matrix of scores. Takes projected queries (scaled), keys and
   * values [B*T, (H + 2K) d], and tables [T, size / 2]. Returns [B*T, H d]. `window` is how many positions a query sees, 0 for all.
   */
  attention(projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, shape: AttentionShape): Tensor2D
  /**
   * Multiplies x [N, D] by a stored weight [R, D], or by the result of `narrow` or `group` on it, and adds bias [R]. Returns [N, R]. Made
   * for few rows, where reading the weight takes most of the time.
   */
  projectFew(x: Tensor2D, weight: Tensor2D, bias: Tensor1D | undefined): Tensor2D
  /**
   * Stores a weight [R, D], some of whose rows may have been multiplied by a factor, in 16 bits for operations on few rows, whose results
   * stay equal bit for bit. Undefined if it would lose precision.
   */
  narrow(weight: Tensor2D, factor?: RowFactor): Tensor2D | undefined
  /**
   * Lays out the quantised blocks that a weight [R, D] was unpacked from for operations on few rows, whose results stay equal bit for bit.
   * Returns undefined if the weight does not equal the unpacked blocks, or if R is not a multiple of 4.
   */
  group(weight: Tensor2D, parts: readonly QuantisedRows[]): Tensor2D | undefined
  /**
   * Like `attention`, for rows of several sequences. Writes their keys and values into slots of a cache, in place. Each row sees the slots
   * of its sequence up to its own position. The tables have one row per row of the call, [N, size / 2].
   */
  attendPlaced(projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, placed: PlacedRows & CachedBlock, shape: AttentionShape): Tensor2D
  /** Takes few rows of the stream x [N, D] through parts of the decoder in sequence. Returns the stream after the last, [N, D]. */
  decode(x: Tensor2D, parts: DecodedParts, placed: PlacedRows, shape: DecoderShape): Tensor2D
  /** (x - mean if `centred`) / sqrt(sum of squares / divisor + epsilon) * weight + bias, row by row: x [N, D]. */
  normalize(x: Tensor2D, weight: Tensor | undefined, bias: Tensor | undefined, norm: FusedNorm): Tensor2D
  /**
   * Gradients of a loss with respect to x, weight and bias, given the gradient with respect to the result of `normalize`: [N, D], [D], [D].
   */
  normalizeBackward(x: Tensor2D, weight: Tensor | undefined, gradient: Tensor2D, norm: FusedNorm): [Tensor2D, Tensor1D, Tensor1D]
  /**
   * Gradients with respect to gate and up, given the gradient with respect to the neurons activation(gate) * up; and these neurons, [N, I]
   * each. Without a gate: the gradient with respect to up, an empty tensor, and the neurons activation(up).
   */
  neuronsBackward(
    gate: Tensor2D | undefined,
    up: Tensor2D,
    gradient: Tensor2D,
    activation: keyof typeof activations,
  ): [Tensor2D, Tensor2D, Tensor2D]
  /** The gradient with respect to `projected` of `attention`, given the gradient with respect to its result [B*T, H d]. */
  attentionBackward(projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, shape: AttentionShape, gradient: Tensor2D): Tensor2D
  /** silu(gate) * up: [N, I] each. */
  gate(gate: Tensor2D, up: Tensor2D): Tensor2D
  /** For each row x of logits [N, V], a number m near or equal to its maximum and the sum of e^(x - m): [N, 2]. */
  exponents(logits: Tensor2D): Tensor2D
  /**
   * Compares logits of a dense model with those of another one, [N, C] each. Returns [N, 5 + 2 count]: each model's largest logit and the
   * sum of exponentials relative to it, the mean difference under the dense distribution, and the `count` largest logits of the other model
   * with their columns.
   */
  compareLogits(dense: Tensor2D, own: Tensor2D, count: number): Tensor2D
  /** |a - b| / |b| and the cosine of each pair of rows: [N, D] each to [N, 2]. */
  distance(a: Tensor2D, b: Tensor2D): Tensor2D
  /** Sums of |x| or of x squared over the rows of each sample: [B * tokens, I] to [B, I]. */
  columnSums(x: Tensor2D, tokens: number, squared: boolean): Tensor2D
}

/** Functions of `native/` on arrays, in place, with all threads. */
export interface ArrayFunctions {
  /**
   * One step of AdamW, which updates the values and both moments. `reach` is the learning rate divided by the bias correction of the first
   * moment, and `level` is one divided by that of the second.
   */
  stepAdam(
    values: Float32Array,
    first: Float32Array,
    second: Float32Array,
    gradient: Float32Array,
    ...numbers: [firstDecay: number, secondDecay: number, epsilon: number, reach: number, level: number, factor: number]
  ): void
  /** The sum is computed in float64 and always in the same order. */
  sumOfSquares(values: Float32Array): number
}

/** The quantised types that `group` accepts: their names in ggml, and their numbers in a GGUF file. */
export const groupedTypes = { Q4_0: 2, Q5_0: 6, Q8_0: 8, Q4_K: 12, Q5_K: 13, Q6_K: 14 } as const

/** Rows of a weight as the blocks that a GGUF file stores. */
export interface QuantisedRows {
  readonly type: keyof typeof groupedTypes
  readonly rows: number
  readonly blocks: Uint8Array
  /** The factor that the entries were multiplied by after unpacking. */
  readonly factor: number
}

/** The sequence and position of each row of a call. */
export interface PlacedRows {
  /** For each row, where the slots of its sequence begin in `slots`, and its position: [N, 2]. */
  readonly rows: Tensor2D
  readonly slots: Tensor1D
}

/** Keys and values of one block, [K, capacity, d] each. */
export interface CachedBlock {
  readonly key: Tensor3D
  readonly value: Tensor3D
}

/** The settings that all parts of a model share and that `decode` needs. */
interface DecoderShape {
  readonly heads: number
  readonly keyValueHeads: number
  readonly headSize: number
  readonly activation: keyof typeof activations
  readonly gatedQueries: boolean
  readonly cap: number
}

/** Parts in the form that `decode` reads; see `native/kernels/decode-kernel.h`. */
export interface DecodedParts {
  /** The integers and the floating-point numbers of the parts, one part after another (see `decode-words.ts`). */
  readonly steps: Int32Array
  readonly numbers: Float32Array
  readonly lists: Int32Array
  readonly tensors: readonly Tensor[]
  /** Weights in fewer bits: results of `narrow` or `group`, or tiles of packed weights. */
  readonly packed: readonly Tensor[]
}

/** The part of tfjs-node's backend that runs an operation by name. */
export interface OperationRunner {
  readonly binding: { readonly TF_ATTR_INT: number; readonly TF_ATTR_FLOAT: number }
  executeSingleOutput(name: string, attributes: object[], inputs: Tensor[]): Tensor
  executeMultipleOutputs(name: string, attributes: object[], inputs: Tensor[], outputs: number): Tensor[]
}

/** Our operations, and our products of 16-bit operands if the processor has units for them. Empty if setup could not compile them. */
export interface OwnOperations {
  readonly fused?: FusedOperations
  readonly bf16?: NativeBf16Ops
}

/** Loads the operations that setup compiled for this processor. Returns an empty object if there are none. */
export function loadFused(runtimeFolder: string, runner: OperationRunner): OwnOperations {
  const path = trustedAddon(runtimeFolder, fusedName())
  if (!path) return {}
  const addon = { exports: {} as unknown }
  process.dlopen(addon, path)
  const calls = callsOf(runner)
  const { ints, floats, run, runForAll } = calls
  const bf16 = nativeBf16Ops(
    { run: (name, integers, numbers, inputs, outputs = 1) => runForAll(name, [...ints(integers), ...floats(numbers)], inputs, outputs) },
    bestUnits(run('EspalierUnits', [], {})),
  )
  const fused: FusedOperations = {
    arrays: addon.exports as ArrayFunctions,
    ...attentionOperations(calls),
    ...fewRowOperations(calls),
    group: groupOperation(calls),
    ...submoduleOperations(calls),
    ...rowOperations(calls),
  }
  return { fused, ...(bf16 ? { bf16 } : {}) }
}

type Calls = ReturnType<typeof callsOf>

/** Functions that call operations: they build attributes, and take inputs by name. */
function callsOf(runner: OperationRunner) {
  const { TF_ATTR_INT, TF_ATTR_FLOAT } = runner.binding
  return {
    ints: (values: Record<string, number | boolean>) =>
      Object.entries(values).map(([name, value]) => ({ name, type: TF_ATTR_INT, value: Number(value) })),
    floats: (values: Record<string, number>) => Object.entries(values).map(([name, value]) => ({ name, type: TF_ATTR_FLOAT, value })),
    run: <Name extends OperationName>(name: Name, attributes: object[], inputs: OperationInputs<Name>) =>
      runner.executeSingleOutput(name, attributes, inOrder(name, inputs)) as Tensor2D,
    runForAll: <Name extends OperationName>(name: Name, attributes: object[], inputs: OperationInputs<Name>, outputs: number) =>
      runner.executeMultipleOutputs(name, attributes, inOrder(name, inputs), outputs),
  }
}

function attentionOperations({ ints, floats, run }: Calls): Pick<FusedOperations, 'attention' | 'attendPlaced' | 'attentionBackward'> {
  return {
    attention(projected, cosine, sine, shape) {
      const attributes = [...ints({ ...attentionInts(shape), units: 0, split: false }), ...floats({ cap: shape.cap ?? 0 })]
      return run('EspalierAttention', attributes, { projected, cosine, sine })
    },
    attendPlaced(projected, cosine, sine, { rows, slots, key, value }, shape) {
      const attributes = [...ints(attentionInts(shape)), ...floats({ cap: shape.cap ?? 0 })]
      return run('EspalierPlacedAttention', attributes, { projected, cosine, sine, rows, slots, keys: key, values: value })
    },
    attentionBackward(projected, cosine, sine, shape, gradient) {
      const attributes = [...ints({ ...attentionInts(shape), units: 0 }), ...floats({ cap: shape.cap ?? 0 })]
      return run('EspalierAttentionBackward', attributes, { projected, cosine, sine, gradient })
    },
  }
}

function fewRowOperations({ ints, floats, run }: Calls): Pick<FusedOperations, 'projectFew' | 'narrow' | 'decode'> {
  return {
    // TensorFlow requires every input of an operation. For an input that does not apply, any tensor is passed; the operation ignores it.
    projectFew(x, weight, bias) {
      const name = weight.dtype === 'int32' ? 'EspalierFewNarrowRows' : 'EspalierFewRows'
      return run(name, ints({ biased: bias !== undefined }), { x, weight, bias: bias ?? x })
    },
    narrow: (weight, factor) =>
      unlessEmpty(run('EspalierNarrow', [...ints(factorInts(factor)), ...floats(factorFloats(factor))], { weight })),
    decode(x, { steps, numbers, lists, tensors, packed }, { rows, slots }, { cap, ...shape }) {
      const parts = steps.length / stepWords.length
      const described = {
        steps: tensor2d(steps, [parts, stepWords.length]),
        numbers: tensor2d(numbers, [parts, stepNumbers.length]),
        lists: tensor1d(lists),
      }
      const integers = ints({
        count: tensors.length,
        packed: packed.length,
        heads: shape.heads,
        key_value_heads: shape.keyValueHeads,
        head_size: shape.headSize,
        activation: activations[shape.activation],
        gated_queries: shape.gatedQueries,
      })
      const result = run('EspalierDecode', [...integers, ...floats({ cap })], { x, ...described, rows, slots, tensors, halves: packed })
      for (const tensor of Object.values(described)) tensor.dispose()
      return result
    },
  }
}

function groupOperation({ ints, run }: Calls): FusedOperations['group'] {
  return (weight, parts) => {
    const types = tensor1d(Int32Array.from(parts.flatMap(({ type, rows }) => [groupedTypes[type], rows])))
    const factors = tensor1d(Float32Array.from(parts, ({ factor }) => factor))
    const blocks = parts.map((part) => tensor1d(wordsOf(part.blocks)))
    const grouped = run('EspalierGroup', ints({ count: parts.length }), { weight, types, factors, blocks })
    for (const tensor of [types, factors, ...blocks]) tensor.dispose()
    return unlessEmpty(grouped)
  }
}

/** Turns the empty tensor, which an operation returns if it has no result, into undefined. */
function unlessEmpty(result: Tensor2D): Tensor2D | undefined {
  if (result.size > 0) return result
  result.dispose()
  return undefined
}

/** Views bytes as 32-bit words. If they do not fill whole, aligned words, they are copied. */
function wordsOf(bytes: Uint8Array): Int32Array {
  if (bytes.byteLength % 4 === 0 && bytes.byteOffset % 4 === 0) return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  const words = new Int32Array(Math.ceil(bytes.byteLength / 4))
  new Uint8Array(words.buffer).set(bytes)
  return words
}

function submoduleOperations({
  ints,
  floats,
  run,
  runForAll,
}: Calls): Pick<FusedOperations, 'normalize' | 'normalizeBackward' | 'neuronsBackward' | 'gate'> {
  return {
    normalize(x, weight, bias, { epsilon, divisor, centred }) {
      const attributes = [...floats({ epsilon, divisor }), ...ints({ centred, weighted: weight !== undefined, biased: bias !== undefined })]
      return run('EspalierNorm', attributes, { x, weight: weight ?? x, bias: bias ?? x })
    },
    normalizeBackward(x, weight, gradient, { epsilon, divisor, centred }) {
      const attributes = [...floats({ epsilon, divisor }), ...ints({ centred, weighted: weight !== undefined })]
      return runForAll('EspalierNormBackward', attributes, { x, weight: weight ?? x, gradient }, 3) as [Tensor2D, Tensor1D, Tensor1D]
    },
    neuronsBackward(gate, up, gradient, activation) {
      const attributes = ints({ activation: activations[activation], gated: gate !== undefined })
      return runForAll('EspalierNeuronsBackward', attributes, { gate: gate ?? up, up, gradient }, 3) as [Tensor2D, Tensor2D, Tensor2D]
    },
    gate: (gate, up) => run('EspalierGate', [], { gate, up }),
  }
}

function rowOperations({ ints, run }: Calls): Pick<FusedOperations, 'exponents' | 'compareLogits' | 'distance' | 'columnSums'> {
  return {
    exponents: (logits) => run('EspalierExponents', [], { logits }),
    compareLogits: (dense, own, count) => run('EspalierCompareLogits', ints({ count }), { dense, own }),
    distance: (a, b) => run('EspalierDistance', [], { a, b }),
    columnSums: (x, tokens, squared) => run('EspalierColumns', ints({ tokens, squared }), { x }),
  }
}

/** Reads the number of the fastest units for 16-bit operands that this processor has; 0 if it has none. */
function bestUnits(number: Tensor): number {
  const [found = 0] = number.dataSync()
  number.dispose()
  return found
}
