import { type Tensor, type Tensor1D, type Tensor2D, type Tensor3D, tensor1d, tensor2d } from '@tensorflow/tfjs-core'
import { fusedName } from '#runtime/places.mjs'
import { trustedAddon } from '#runtime/trusted.mjs'
import { stepNumbers, stepWords } from './decode-words.ts'
import { type AttentionShape, activations, attentionInts, type FusedNorm, halfOperations, type ProcessorHalves } from './halves.ts'
import { inOrder, type OperationInputs, type OperationName } from './native-inputs.ts'

/** Operations of `native/`: one pass over memory where the runtime's own operations need many. */
export interface FusedOperations {
  readonly arrays: ArrayFunctions
  /**
   * Rotary embedding and causal attention together, without a matrix of scores: projected queries (scaled), keys and values [B*T, (H + 2K)
   * d] and tables [T, size / 2] to [B*T, H d]. `window` is how many positions a query sees, 0 for all.
   */
  attention(projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, shape: AttentionShape): Tensor2D
  /**
   * x [N, D] times a stored weight [R, D], or the result of `narrow` or `group` on it, plus bias [R]: [N, R]. For few rows, where reading
   * the weight takes most of the time.
   */
  projectFew(x: Tensor2D, weight: Tensor2D, bias: Tensor1D | undefined): Tensor2D
  /** A stored weight [R, D] in 16 bits for operations on few rows, with equal results bit for bit. Undefined if precision would be lost. */
  narrow(weight: Tensor2D): Tensor2D | undefined
  /**
   * A stored weight [R, D] as the quantised blocks that it was unpacked from, for operations on few rows, with equal results bit for bit.
   * Undefined if it is something else, or R is no multiple of 4.
   */
  group(weight: Tensor2D, parts: readonly QuantisedRows[]): Tensor2D | undefined
  /**
   * The same as `attention`, for rows of several sequences. Their keys and values are written into slots of a cache, in place, and each row
   * sees the slots of its sequence up to its own position. Tables are those of the rows, [N, size / 2].
   */
  attendPlaced(projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, placed: PlacedRows & CachedBlock, shape: AttentionShape): Tensor2D
  /** Takes few rows of the stream x [N, D] through parts of the decoder in sequence. Returns the stream after the last, [N, D]. */
  decode(x: Tensor2D, parts: DecodedParts, placed: PlacedRows, shape: DecoderShape): Tensor2D
  /** (x - mean if `centred`) / sqrt(sum of squares / divisor + epsilon) * weight + bias, row by row: x [N, D]. */
  normalize(x: Tensor2D, weight: Tensor | undefined, bias: Tensor | undefined, norm: FusedNorm): Tensor2D
  /** Gradients of a loss by x, weight and bias, given its gradient by `normalize` of them: [N, D], [D], [D]. */
  normalizeBackward(x: Tensor2D, weight: Tensor | undefined, gradient: Tensor2D, norm: FusedNorm): [Tensor2D, Tensor1D, Tensor1D]
  /**
   * Gradients by gate and up, given those by activation(gate) * up, and these neurons: [N, I] each. Without a gate: the gradient by up,
   * nothing, and the neurons.
   */
  neuronsBackward(
    gate: Tensor2D | undefined,
    up: Tensor2D,
    gradient: Tensor2D,
    activation: keyof typeof activations,
  ): [Tensor2D, Tensor2D, Tensor2D]
  /** The gradient by the inputs of `attention`, given that of its output [B*T, H d]. */
  attentionBackward(projected: Tensor2D, cosine: Tensor2D, sine: Tensor2D, shape: AttentionShape, gradient: Tensor2D): Tensor2D
  /** silu(gate) * up: [N, I] each. */
  gate(gate: Tensor2D, up: Tensor2D): Tensor2D
  /** The largest logit of each row and the sum of exponents relative to it: [N, V] to [N, 2]. */
  exponents(logits: Tensor2D): Tensor2D
  /**
   * Logits of a dense model and of another one, [N, C] each, to [N, 5 + 2 count]: for each the largest and the sum of exponents relative to
   * it, the mean of their difference under the dense distribution, and the other's largest logits and their columns.
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
   * A step of AdamW on values and both moments: `reach` is the rate divided by the first moment's correction, `level` is one divided by the
   * second's.
   */
  stepAdam(
    values: Float32Array,
    first: Float32Array,
    second: Float32Array,
    gradient: Float32Array,
    ...numbers: [firstDecay: number, secondDecay: number, epsilon: number, reach: number, level: number, factor: number]
  ): void
  /** In float64, always in the same order. */
  sumOfSquares(values: Float32Array): number
}

/** The types whose blocks `group` takes, by their names in ggml, with their numbers in a GGUF file. */
export const groupedTypes = { Q4_0: 2, Q5_0: 6, Q8_0: 8, Q4_K: 12, Q5_K: 13, Q6_K: 14 } as const

/** Rows of a weight in the blocks of a GGUF file. */
export interface QuantisedRows {
  readonly type: keyof typeof groupedTypes
  readonly rows: number
  readonly blocks: Uint8Array
  /** What the entries were multiplied by after unpacking. */
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

/** What all parts of a model share, as far as the operation on few rows needs it. */
interface DecoderShape {
  readonly heads: number
  readonly keyValueHeads: number
  readonly headSize: number
  readonly activation: keyof typeof activations
  readonly gatedQueries: boolean
  readonly cap: number
}

/** Parts in the form of the operation on few rows; see `native/kernels/decode-kernel.h`. */
export interface DecodedParts {
  /** Words and numbers of the parts, one part after another. */
  readonly steps: Int32Array
  readonly numbers: Float32Array
  readonly lists: Int32Array
  readonly tensors: readonly Tensor[]
  /** Weights in fewer bits: results of `narrow` or `group`, or tiles of packed weights. */
  readonly halves: readonly Tensor[]
}

/** The part of tfjs-node's backend that runs an operation by name. */
export interface OperationRunner {
  readonly binding: { readonly TF_ATTR_INT: number; readonly TF_ATTR_FLOAT: number }
  executeSingleOutput(name: string, attributes: object[], inputs: Tensor[]): Tensor
  executeMultipleOutputs(name: string, attributes: object[], inputs: Tensor[], outputs: number): Tensor[]
}

/** Our operations, and those on 16-bit operands if the processor has units for them. */
export interface OwnOperations {
  readonly fused?: FusedOperations
  readonly halves?: ProcessorHalves
}

/** Loads the operations that setup compiled for this processor; empty if it could not. */
export function loadFused(runtimeFolder: string, runner: OperationRunner): OwnOperations {
  const path = trustedAddon(runtimeFolder, fusedName())
  if (!path) return {}
  const addon = { exports: {} as unknown }
  process.dlopen(addon, path)
  const calls = callsOf(runner)
  const { ints, floats, run, runForAll } = calls
  const halves = halfOperations(
    { run: (name, whole, others, inputs, outputs = 1) => runForAll(name, [...ints(whole), ...floats(others)], inputs, outputs) },
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
  return { fused, ...(halves ? { halves } : {}) }
}

type Calls = ReturnType<typeof callsOf>

/** How operations are called: their attributes, and inputs by name. */
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
    // An operation must have all its inputs. For a missing one, another tensor is passed, which is not read.
    projectFew(x, weight, bias) {
      const name = weight.dtype === 'int32' ? 'EspalierFewNarrowRows' : 'EspalierFewRows'
      return run(name, ints({ biased: bias !== undefined }), { x, weight, bias: bias ?? x })
    },
    narrow: (weight) => unlessEmpty(run('EspalierNarrow', [], { weight })),
    decode(x, { steps, numbers, lists, tensors, halves: packed }, { rows, slots }, { cap, ...shape }) {
      const parts = steps.length / stepWords.length
      const own = {
        steps: tensor2d(steps, [parts, stepWords.length]),
        numbers: tensor2d(numbers, [parts, stepNumbers.length]),
        lists: tensor1d(lists),
      }
      const whole = ints({
        count: tensors.length,
        packed: packed.length,
        heads: shape.heads,
        key_value_heads: shape.keyValueHeads,
        head_size: shape.headSize,
        activation: activations[shape.activation],
        gated_queries: shape.gatedQueries,
      })
      const result = run('EspalierDecode', [...whole, ...floats({ cap })], { x, ...own, rows, slots, tensors, halves: packed })
      for (const tensor of Object.values(own)) tensor.dispose()
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

/** The result of an operation that gives an empty one where it has none. */
function unlessEmpty(result: Tensor2D): Tensor2D | undefined {
  if (result.size > 0) return result
  result.dispose()
  return undefined
}

/** Bytes as 32-bit words: in place if they fill whole ones, else in new memory. */
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

/** The number of the best units for 16-bit operands that this processor has, 0 for none. */
function bestUnits(number: Tensor): number {
  const [found = 0] = number.dataSync()
  number.dispose()
  return found
}
